"""Paths below /v1/, for older clients (docs/contract.md)."""

from api.routes import CHANNEL, PUBLISH, STREAM, route, unknown
from api.v1 import views
from api.v2 import publish

urlpatterns = [
    route(PUBLISH, publish.PublishViewSet, post="create"),
    route("device", views.DeviceViewSet, get="list"),
    route("channel", views.ChannelViewSet, get="list"),
    route(CHANNEL, views.ChannelViewSet, get="retrieve"),
    route(STREAM, views.StreamViewSet, get="retrieve"),
    unknown,
]
