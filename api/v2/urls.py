"""Paths below /v2/."""

from api.routes import CHANNEL, CONTACT, DEVICE, EVENT, INCIDENT, MAINTENANCE, PUBLISH, STREAM, route, unknown
from api.v2 import (
    contacts,
    deliveries,
    docs,
    events,
    incidents,
    maintenance,
    publish,
    sessions,
    streams,
    views,
)

urlpatterns = [
    route("device", views.DeviceViewSet, get="list"),
    route(DEVICE, views.DeviceViewSet, get="retrieve", post="create", put="update", delete="destroy"),
    route("channel", views.ChannelViewSet, get="list"),
    route(CHANNEL, views.ChannelViewSet, get="retrieve", post="create", put="update", delete="destroy"),
    route(STREAM, streams.StreamViewSet, get="retrieve", post="create"),
    route("event", events.EventViewSet, get="list", post="create"),
    route(EVENT, events.EventViewSet, get="retrieve", put="update", delete="destroy"),
    route(rf"{EVENT}/test", events.EventTestViewSet, post="create"),
    route(rf"{EVENT}/secret", events.EventSecretViewSet, get="retrieve", post="create"),
    route("contact", contacts.ContactViewSet, get="list", post="create"),
    route(CONTACT, contacts.ContactViewSet, get="retrieve", put="update", delete="destroy"),
    route(rf"{CONTACT}/test", contacts.ContactTestViewSet, post="create"),
    route("incident", incidents.IncidentViewSet, get="list"),
    route(INCIDENT, incidents.IncidentViewSet, get="retrieve", put="update"),
    route("delivery", deliveries.DeliveryViewSet, get="list"),
    route("maintenance", maintenance.MaintenanceViewSet, get="list", post="create"),
    route(MAINTENANCE, maintenance.MaintenanceViewSet, delete="destroy"),
    route(PUBLISH, publish.PublishViewSet, post="create"),
    route("session", sessions.SessionViewSet, get="list"),
    route("user", views.UserViewSet, get="list", put="update"),
    *docs.urlpatterns,
    unknown,
]
