from django.urls import re_path

from ingest.connectors.http_view import connector

urlpatterns = [re_path(r"^(?:post|post_v1|post_v2)/?$", connector)]
