"""Paths below /v1/, for older clients (docs/contract.md)."""

from api.routes import CHANNEL, PUBLISH, STREAM, route, unknown
from api.v1 import views
from api.v2 import publish

urlpatterns = [
    route(PUBLISH, publish.PublishViewSet, post="create"),
    route("device", views.OlderDeviceViewSet, get="list"),
    route("channel", views.OlderChannelViewSet, get="list"),
    route(CHANNEL, views.OlderChannelViewSet, get="retrieve"),
    route(STREAM, views.OlderStreamViewSet, get="retrieve"),
    unknown,
]
