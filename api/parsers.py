"""A body is JSON whatever its Content-Type says: the published curl samples send curl's default."""

from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from thingscale.lib import exact_json, json_rules
from thingscale.lib.errors import ContractError
from thingscale.web.request_body import MAX_BODY


class AlwaysJSON(BaseContentNegotiation):
    """Takes the one parser and renderer of a view, whatever Content-Type and Accept say."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class AnyTypeJSONParser(BaseParser):
    """Raises ContractError: BAD_JSON_FORMAT, TOO_LARGE."""

    media_type = "*/*"
    loads: Callable[[bytes], Any] = staticmethod(exact_json.standard)

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise ContractError("TOO_LARGE", f"A body has at most {MAX_BODY} bytes: send it in parts.")
        try:
            return self.loads(json_rules.trimmed(body))
        except (ValueError, RecursionError) as error:
            raise ContractError("BAD_JSON_FORMAT", f"The body is not JSON: {error}.") from None


class ExactJSONParser(AnyTypeJSONParser):
    """Keeps numbers that a Python float would change, as exact_json.Number."""

    loads = staticmethod(exact_json.loads)
