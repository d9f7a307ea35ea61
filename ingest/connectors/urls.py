from django.urls import re_path

from ingest.connectors.http import KINDS
from ingest.connectors.http_view import connector, intake
from ingest.connectors.intake.routes import FORMATS, PREFIX

urlpatterns = [
    *(re_path(rf"^{path.removeprefix('/')}/?$", connector) for path in KINDS),
    *(re_path(rf"^{path.removeprefix('/')}$", intake) for path in FORMATS),
    re_path(rf"^{PREFIX.removeprefix('/')}", intake),
]
