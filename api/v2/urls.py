"""Paths below /v2/, each with or without a slash at its end."""

from typing import Any

from django.urls import URLPattern, re_path

from api.v2 import platform, views


def route(path: str, viewset: Any, **actions: str) -> URLPattern:
    pattern: URLPattern = re_path(rf"^{path}/?$", viewset.as_view(actions))
    return pattern


DEVICE = r"device/(?P<device_id>[^/]+)"
CHANNEL = r"channel/(?P<number>[^/]+)"
STREAM = r"stream/(?P<number>[^/]+)"

urlpatterns = [
    route("device", views.DeviceViewSet, get="list"),
    route(DEVICE, views.DeviceViewSet, get="retrieve", post="create", put="update", delete="destroy"),
    route("channel", views.ChannelViewSet, get="list"),
    route(CHANNEL, views.ChannelViewSet, get="retrieve", post="create", put="update", delete="destroy"),
    route(STREAM, views.StreamViewSet, get="retrieve", post="create"),
    route(r"publish/(?P<device_id>[^/]+)", platform.PublishViewSet, post="create"),
    route("session", platform.SessionViewSet, get="list"),
    route("user", views.UserViewSet, get="list", put="update"),
    re_path("", views.UnknownPath.as_view()),
]
