"""What fires now, and what did."""

from django.http import HttpResponse
from django.shortcuts import render

from console.request import ConsoleRequest
from console.views.events import SECTION


def index(request: ConsoleRequest) -> HttpResponse:
    return render(request, "console/alert/page.html", SECTION)
