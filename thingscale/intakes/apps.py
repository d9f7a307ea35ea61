from django.apps import AppConfig


class IntakesConfig(AppConfig):
    name = "thingscale.intakes"
