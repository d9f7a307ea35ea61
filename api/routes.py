"""Paths with or without a slash at their end, and the answer to those that there are not."""

from typing import Any

from django.urls import URLPattern, re_path
from rest_framework.request import Request
from rest_framework.views import APIView

from api.parsers import AlwaysJSON
from thingscale.lib.errors import ContractError

DEVICE = r"device/(?P<device_id>[^/]+)"
CHANNEL = r"channel/(?P<number>[^/]+)"
STREAM = r"stream/(?P<number>[^/]+)"
PUBLISH = r"publish/(?P<device_id>[^/]+)"
EVENT = r"event/(?P<number>[^/]+)"
CONTACT = r"contact/(?P<number>[^/]+)"
INCIDENT = r"incident/(?P<number>[^/]+)"
INTAKE = r"intake/(?P<number>[^/]+)"
MAINTENANCE = r"maintenance/(?P<number>[^/]+)"
RULE = r"rule/(?P<number>[^/]+)"


def route(path: str, viewset: Any, **actions: str) -> URLPattern:
    pattern: URLPattern = re_path(rf"^{path}/?$", viewset.as_view(actions))
    return pattern


class UnknownPath(APIView):
    content_negotiation_class = AlwaysJSON
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise ContractError("NOT_FOUND", "There is no such service: see the list of calls.")


unknown: URLPattern = re_path("", UnknownPath.as_view())  # to be the last
