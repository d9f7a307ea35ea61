"""/v2/openapi.json, and a page to read it with."""

from typing import Any

from django.urls import path
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.parsers import AlwaysJSON
from api.v2.openapi import document
from thingscale.web.base_url import base_url

POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class OpenAPIView(APIView):
    """For everybody: it holds nothing of anybody."""

    authentication_classes = []
    permission_classes = []
    content_negotiation_class = AlwaysJSON
    schema = None

    def get(self, request: Request) -> Response:
        return Response(document() | {"servers": [{"url": base_url(request._request)}]})


class DocsPage(SpectacularSwaggerSplitView):
    """Its script is a file of its own, so that the page's policy need not allow any within it."""

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(*args, **kwargs)
        response["Content-Security-Policy"] = POLICY
        return response


_page: Any = DocsPage.as_view(url="/v2/openapi.json")
urlpatterns = [path("openapi.json", OpenAPIView.as_view()), path("docs", _page), path("docs/", _page)]
