"""Paths below /v1/, for older clients (CONTRACT 3)."""

from api.routes import CHANNEL, STREAM, route, unknown
from api.v1 import views

urlpatterns = [
    route("device", views.DeviceViewSet, get="list"),
    route("channel", views.ChannelViewSet, get="list"),
    route(CHANNEL, views.ChannelViewSet, get="retrieve"),
    route(STREAM, views.StreamViewSet, get="retrieve"),
    unknown,
]
