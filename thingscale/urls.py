from django.contrib import admin
from django.urls import include, path, re_path

handler500 = "console.views.errors.failed"
urlpatterns = [
    path("", include("ingest.urls")),
    re_path(r"^v1(?:/|$)", include("api.v1.urls")),
    re_path(r"^v2(?:/|$)", include("api.v2.urls")),
    path("admin/", admin.site.urls),
    path("", include("console.urls")),
]
