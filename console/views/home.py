from django.http import HttpResponse
from django.shortcuts import render

from console.request import UserRequest


def home(request: UserRequest) -> HttpResponse:
    return render(request, "console/home.html", {"section": "home"})
