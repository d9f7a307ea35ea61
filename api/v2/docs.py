"""/v2/openapi.json, and a page to read it with."""

from typing import Any

from django.urls import path
from drf_spectacular.views import SpectacularSwaggerView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.parsers import AlwaysJSON
from api.v2.openapi import document


class OpenAPIView(APIView):
    """For everybody: it holds nothing of anybody."""

    authentication_classes = []
    permission_classes = []
    content_negotiation_class = AlwaysJSON
    schema = None

    def get(self, request: Request) -> Response:
        return Response(document())


_page: Any = SpectacularSwaggerView.as_view(url="/v2/openapi.json")
urlpatterns = [path("openapi.json", OpenAPIView.as_view()), path("docs", _page), path("docs/", _page)]
