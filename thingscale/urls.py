from django.urls import include, path

from thingscale import health

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("", include("ingest.urls")),
    path("v2/", include("api.v2.urls")),
]
