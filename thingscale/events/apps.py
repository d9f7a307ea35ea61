from django.apps import AppConfig


class EventsConfig(AppConfig):
    name = "thingscale.events"

    def ready(self) -> None:
        from thingscale.events.observe import observe_stored
        from thingscale.streams.actions import datapoints

        datapoints.also.append(observe_stored)
