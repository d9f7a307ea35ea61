"""Paths below /v2/."""

from api.routes import CHANNEL, DEVICE, EVENT, PUBLISH, STREAM, route, unknown
from api.v2 import docs, events, publish, sessions, streams, views

urlpatterns = [
    route("device", views.DeviceViewSet, get="list"),
    route(DEVICE, views.DeviceViewSet, get="retrieve", post="create", put="update", delete="destroy"),
    route("channel", views.ChannelViewSet, get="list"),
    route(CHANNEL, views.ChannelViewSet, get="retrieve", post="create", put="update", delete="destroy"),
    route(STREAM, streams.StreamViewSet, get="retrieve", post="create"),
    route("event", events.EventViewSet, get="list", post="create"),
    route(EVENT, events.EventViewSet, get="retrieve", put="update", delete="destroy"),
    route(PUBLISH, publish.PublishViewSet, post="create"),
    route("session", sessions.SessionViewSet, get="list"),
    route("user", views.UserViewSet, get="list", put="update"),
    *docs.urlpatterns,
    unknown,
]
