from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path, re_path
from django.views.generic import RedirectView

handler500 = "console.views.errors.failed"
urlpatterns = [
    path("", include("ingest.connectors.urls")),
    re_path(r"^v1(?:/|$)", include("api.v1.urls")),
    re_path(r"^v2(?:/|$)", include("api.v2.urls")),
    re_path(r"^console/?$", login_not_required(RedirectView.as_view(url="/"))),
    path("admin/", admin.site.urls),
    path("", include("console.urls")),
]
