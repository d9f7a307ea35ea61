from django.apps import AppConfig


class HostsConfig(AppConfig):
    name = "thingscale.hosts"
