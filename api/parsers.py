"""A body is JSON whatever its Content-Type says: the published curl samples send curl's default."""

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any, NoReturn

import orjson
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from thingscale.lib import json_rules
from thingscale.lib.errors import Refused
from thingscale.web.request_body import MAX_BODY

_NO_NUMBER = bytes(set(range(256)) - set(b'0123456789.-+eE,:[]{}"'))  # nor between two


class AlwaysJSON(BaseContentNegotiation):
    """The one parser and renderer of a view, whatever Content-Type and Accept say."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class AnyTypeJSONParser(BaseParser):
    """Raises Refused: BAD_JSON_FORMAT, TOO_LARGE."""

    media_type = "*/*"
    numbers: Mapping[str, Any] = {}  # parse_float and parse_int of json.loads

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise Refused("TOO_LARGE", f"A body has at most {MAX_BODY} bytes: send it in parts.")
        try:
            return self.read(json_rules.trimmed(body))
        except (ValueError, RecursionError) as error:
            raise Refused("BAD_JSON_FORMAT", f"The body is not JSON: {error}.") from None

    def read(self, body: bytes) -> Any:
        """Raises ValueError or RecursionError."""
        return json.loads(body.decode(), parse_constant=_not_json, **self.numbers)


class Number(str):
    """A number as it was written: 23.40 stays 23.40."""

    __slots__ = ()


def _whole(text: str) -> int | Number:
    return int(text) if len(text) < 19 else Number(text)


def _unchanged(body: bytes, read: bytes) -> bool:
    """Whether each number reads back as it was written."""
    return body.translate(None, _NO_NUMBER) == read.translate(None, _NO_NUMBER)


class ExactJSONParser(AnyTypeJSONParser):
    """Keeps numbers that a Python float would change: they are Number. A body that has none is read the fast
    way."""

    numbers = {"parse_float": Number, "parse_int": _whole}

    def read(self, body: bytes) -> Any:
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:  # it refuses some that are JSON, such as numbers beyond a float
            return super().read(body)
        return found if _unchanged(body, orjson.dumps(found)) else super().read(body)
