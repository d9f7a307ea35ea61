from django.apps import AppConfig


class ThingscaleConfig(AppConfig):
    name = "thingscale"
    label = "thingscale"

    def ready(self) -> None:
        from thingscale import checks  # noqa: F401  (registers the system checks)
