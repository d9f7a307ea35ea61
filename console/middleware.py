"""What every page of the console is served with."""

import json
from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone, translation
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.utils.translation import gettext

from console.forms.account import SignInForm
from console.request import ConsoleRequest, is_api
from console.unsent import Unsent, page_before

Next = Callable[[HttpRequest], HttpResponse]

POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)


# Features of browsers that the console does not use, so that no foreign script in a page can use them.
UNUSED_FEATURES = """
    accelerometer ambient-light-sensor bluetooth browsing-topics camera display-capture
    geolocation gyroscope hid magnetometer microphone midi payment serial usb
"""
PERMISSIONS = ", ".join(f"{feature}=()" for feature in UNUSED_FEATURES.split())


class ContentSecurityPolicy:
    """Allows scripts and styles from our own files only, not within a page. A view may set its own policy."""

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._next(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        if not is_api(request):  # which a setting may open to other origins
            response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        return response


class Language:
    """Pages are in the language that the browser asks for, unless the profile names one (see SignedIn).

    Programs are answered in English: texts of the API are a part of the contract. The language is given back
    with the thread.
    """

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if is_api(request):
            return self._next(request)
        with translation.override(translation.get_language_from_request(request)):
            response = self._next(request)
            response.headers.setdefault("Content-Language", translation.get_language() or "en")
        patch_vary_headers(response, ["Accept-Language"])
        return response


ERRORS = {
    400: ("BAD_REQUEST", "This request can't be read: look at its host, its path and its form."),
    404: ("NOT_FOUND", "There is nothing here: devices post to /post_v2/, apps call /v2/ (see /v2/docs)."),
    405: ("METHOD_NOT_ALLOWED", "Use one of the methods in the Allow header."),
    500: ("SERVER_ERROR", "The failure has been logged: tell the operator when it happened."),
    503: ("TRY_AGAIN", "The database is away: send the request again a little later."),
}


class ErrorsForMachines:
    """Leaves pages that say what went wrong to browsers, which ask for HTML. Others get JSON or text."""

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._next(request)
        accept = request.headers.get("Accept", "")
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if response.status_code not in ERRORS or not is_page:
            return response
        if "text/html" in accept or "HX-Request" in request.headers:
            return response
        if response.status_code == 400 and request.resolver_match:
            return response  # a view's own page, which says what is wrong
        code, detail = ERRORS[response.status_code]
        if "json" in accept or request.path.startswith(("/v1", "/v2", "/api")):
            text, content_type = json.dumps({"error": code, "detail": detail}), "application/json"
        else:
            text, content_type = f"{code}: {detail}\n", "text/plain; charset=utf-8"
        response.content = text.encode()
        response.headers["Content-Type"] = content_type
        response.headers["Content-Length"] = str(len(response.content))
        patch_vary_headers(response, ["Accept"])
        return response


class LoginRequired(LoginRequiredMiddleware):
    """Asks to sign in, and loses nothing that was typed before the session ended.

    A page that asks for a part of itself gets an error, says so and stays as it is. A form that is sent is
    carried through the sign-in; its CSRF token proves that it is ours.
    """

    def process_view(self, request: HttpRequest, view_func: Any, *args: Any) -> Any:
        """Does not ask for the user where a page is open to all: the database may be away."""
        open_to_all = not getattr(view_func, "login_required", True)
        return None if open_to_all else super().process_view(request, view_func, *args)

    def handle_no_permission(self, request: HttpRequest, view_func: Any) -> Any:
        wants_json = request.headers.get("Accept", "").split(",")[0] == "application/json"
        if "HX-Request" in request.headers or wants_json:
            detail = gettext("You are signed out: sign in again.")
            return JsonResponse({"error": "AUTH_REQUIRED", "detail": detail}, status=401)
        if request.method != "POST":
            return super().handle_no_permission(request, view_func)
        form = Unsent.of(request)
        if form is None:
            return redirect_to_login(page_before(request))
        context = {"form": SignInForm(request), "next": form.page, "unsent": form.signed}
        response = render(request, "console/account/signin.html", context, status=401)
        add_never_cache_headers(response)
        return response


class SignedIn:
    """Sets `request.account` and `request.actor`: nothing else in the console reads `request.user`.

    Templates and forms show and read times in the actor's zone, and speak his language. No cache keeps the
    pages, nor does a browser's history after signing out: tokens are on some.
    """

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # A session cookie, and not the user, decides here: who sends none costs no query.
        has_session = settings.SESSION_COOKIE_NAME in request.COOKIES
        if is_api(request) or not has_session or not request.user.is_authenticated:
            return self._next(request)
        signed_in = cast(ConsoleRequest, request)
        signed_in.account = signed_in.actor = request.user
        language = signed_in.actor.language or translation.get_language()
        with timezone.override(signed_in.actor.zone), translation.override(language):
            response = self._next(request)
        response.headers.setdefault("Content-Language", language or "en")
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response
