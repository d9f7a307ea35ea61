from django.urls import re_path

from ingest.connectors.http import KINDS
from ingest.connectors.http_view import connector

urlpatterns = [re_path(rf"^{path.removeprefix('/')}/?$", connector) for path in KINDS]
