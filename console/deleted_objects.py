"""Objects that are deleted in another tab, or by somebody else, while a page with their form is open."""

from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse

from thingscale.lib.errors import ContractError

CODES = {"NO_DEVICE", "NO_CHANNEL"}


class DeletedObjectAs404:
    """Answers 404 where a view does not handle the error itself, by a sentence beside a field of its form."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._next(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        if isinstance(error, ContractError) and error.code in CODES:
            raise Http404(error.detail)
