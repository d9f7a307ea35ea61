"""What is deleted between a page and its form, in another tab or by somebody else."""

from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse

from thingscale.lib.errors import ContractError

CODES = {"NO_DEVICE", "NO_CHANNEL"}


class DeletedObjectAs404:
    """404 for what a view lets through. Where a form stands for it, the sentence is beside the field."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._next(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        if isinstance(error, ContractError) and error.code in CODES:
            raise Http404(error.detail)
