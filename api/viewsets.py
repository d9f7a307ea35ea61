"""What all endpoints share: a caller sees only what is of the own account."""

import re
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar, cast

from django.db.models import Model
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from api import options
from api.auth import ApiRequest
from api.parsers import AlwaysJSON
from thingscale.accounts.models import Actor
from thingscale.accounts.tenancy import OwnedQuerySet
from thingscale.lib.clock import without_colon
from thingscale.lib.errors import ContractError
from thingscale.streams.models import Channel

M = TypeVar("M", bound=Model)
MAX_INTEGER = 2**31 - 1
NO_CHANNEL = (
    "NO_CHANNEL",
    "You have no channel with this number: create it first, by POST /v2/channel/NUMBER.",
)


def ok(status: int = 200) -> Response:
    return Response({"result": "OK"}, status)


def path_number(text: str) -> int | None:
    """Reads a number in a path, which has one spelling: 7, and not 007."""
    fits = re.fullmatch(r"0|[1-9][0-9]{0,9}", text) and int(text) <= MAX_INTEGER
    return int(text) if fits else None


def stream_time(moment: datetime | None, actor: Actor) -> str | None:
    return without_colon(moment, actor.zone) if moment else None


class AccountViewSet(GenericViewSet[M], Generic[M]):
    """`missing` is the answer where the account has no object with this id. `write_options` are the options
    that a POST, PUT or DELETE takes."""

    request: ApiRequest
    content_negotiation_class = AlwaysJSON
    http_method_names = ["get", "head", "post", "put", "delete"]
    missing: ClassVar[tuple[str, str]] = ("NOT_FOUND", "There is no such object.")
    write_options: ClassVar[tuple[str, ...]] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action and request.method in options.WRITING:
            options.check_write(request, self.write_options)

    def get_serializer_context(self) -> dict[str, Any]:
        people = {"account": self.request.account, "actor": self.request.actor}
        return {**super().get_serializer_context(), **people}

    def get_queryset(self) -> OwnedQuerySet[M]:
        return cast(OwnedQuerySet[M], super().get_queryset()).for_account(self.request.account)

    def find(self, **lookup: Any) -> M:
        """The account's object. Raises ContractError `missing`."""
        found = self.get_queryset().filter(**lookup).first()
        if found is None:
            raise ContractError(*self.missing)
        return found

    def changes(
        self, required: bool = True, instance: M | None = None, shape: type[BaseSerializer[Any]] | None = None
    ) -> dict[str, Any]:
        """The body's fields, validated by `shape`, or else by the view's serializer.

        Raises ContractError LENGTH_REQUIRED or BAD_JSON_FORMAT, ValidationError naming the field.
        """
        body = self.body() if required or self._has_body() else {}
        if not isinstance(body, dict):
            raise ContractError("BAD_JSON_FORMAT", "The body must be a JSON object.")
        shape = shape or self.get_serializer_class()
        serializer = shape(instance, data=body, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        return cast(dict[str, Any], serializer.validated_data)

    def body(self) -> Any:
        """Parsed JSON. Raises ContractError: LENGTH_REQUIRED, BAD_JSON_FORMAT, TOO_LARGE."""
        if not self.request.headers.get("Content-Length"):
            raise ContractError("LENGTH_REQUIRED", "Send JSON as the body, with its Content-Length.")
        if not self._has_body():
            raise ContractError("BAD_JSON_FORMAT", "The body is empty: send JSON.")
        return self.request.data

    def _has_body(self) -> bool:
        """Another WSGI server may not say how long a body in chunks is, as our own does."""
        length = self.request.headers.get("Content-Length")
        return length != "0" if length else "Transfer-Encoding" in self.request.headers


class ChannelAccess(AccountViewSet[Channel]):
    """Finds a channel by its number in the path."""

    queryset = Channel.objects.all()
    missing = NO_CHANNEL

    def channel(self, number: str) -> Channel:
        key = path_number(number)
        found = None if key is None else Channel.objects.numbered(self.request.account, key)
        if found is None:
            raise ContractError(*self.missing)
        found.user = self.request.auth.user  # so that nobody asks the database for it
        return found
