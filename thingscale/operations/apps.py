from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "thingscale.operations"
