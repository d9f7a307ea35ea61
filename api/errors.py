"""Every error of the API in one shape: {"error": "CODE", "detail": "One sentence that says what to do."}"""

import logging
from typing import Any

import psycopg
from django import db
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.http import Http404, UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.settings import api_settings

from thingscale.lib.errors import ContractError
from thingscale.lib.reasons import ANSWERS, Reason

log = logging.getLogger("django.request")

RETRY_SECONDS = 5
MINUTE = 60
LIKE_DEVICES = (  # why the API refuses what it would refuse of a device
    Reason.AUTH_REQUIRED,
    Reason.BAD_JSON_FORMAT,
    Reason.BAD_PARAMETER,
    Reason.DEVICE_ID_ZERO,
    Reason.IDEMPOTENCY_KEY_REUSED,
    Reason.MAX_DEVICE_REACH,
    Reason.QUOTA_EXCEEDED,
    Reason.TOO_LARGE,
    Reason.TOO_MANY_REQUESTS,
)
STATUS = {reason.value: ANSWERS[reason].http for reason in LIKE_DEVICES} | {
    "RANGE_TOO_LARGE": 400,
    "FORBIDDEN": 403,
    "MAX_CHANNEL_REACH": 403,
    "DEVICE_INUSE": 403,
    "CHANNEL_INUSE": 403,
    "NO_DEVICE": 404,
    "NO_CHANNEL": 404,
    "NO_RULE": 404,
    "NO_EVENT": 404,
    "NO_INCIDENT": 404,
    "NO_DELIVERY": 404,
    "NO_CONTACT": 404,
    "NO_MAINTENANCE": 404,
    "NO_INTAKE": 404,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "LENGTH_REQUIRED": 411,
    "SERVER_ERROR": 500,
    "TRY_AGAIN": 503,
    "BROKER_UNAVAILABLE": 503,
}
# The first kind that fits counts. Without a detail it is the exception's own text.
KINDS: list[tuple[type[Exception] | tuple[type[Exception], ...], str, str | None]] = [
    (
        (exceptions.NotAuthenticated, exceptions.AuthenticationFailed),
        "AUTH_REQUIRED",
        "Send the API token of your account in the header X-APITOKEN, or as Authorization: Bearer.",
    ),
    ((exceptions.NotFound, Http404, ObjectDoesNotExist), "NOT_FOUND", "There is nothing at this address."),
    (exceptions.MethodNotAllowed, "METHOD_NOT_ALLOWED", "Use one of the methods in the Allow header."),
    (exceptions.Throttled, "TOO_MANY_REQUESTS", "Slow down: wait as long as Retry-After says."),
    ((exceptions.PermissionDenied, PermissionDenied), "FORBIDDEN", None),
    (UnreadablePostError, "BAD_JSON_FORMAT", "The body ended early: send it again."),
    (exceptions.APIException, "BAD_JSON_FORMAT", None),
    ((db.DataError, psycopg.DataError), "BAD_PARAMETER", "A value can't be stored as it is."),
    (
        (db.OperationalError, db.InterfaceError, psycopg.OperationalError, psycopg.InterfaceError),
        "TRY_AGAIN",
        "The database is away: send the request again a little later.",
    ),
]


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """REST framework's EXCEPTION_HANDLER."""
    refused = _as_contract_error(error)
    headers = {}
    if refused.code == "SERVER_ERROR":
        request = context["request"]
        log.error("%s failed, asked by %s", request.path, getattr(request, "actor", "nobody"), exc_info=error)
    elif refused.code == "AUTH_REQUIRED":
        headers = {"WWW-Authenticate": getattr(error, "auth_header", "X-APITOKEN")}
    elif refused.code in {"TRY_AGAIN", "BROKER_UNAVAILABLE"}:
        headers = {"Retry-After": str(RETRY_SECONDS)}
    elif (wait := getattr(error, "wait", None)) is not None:
        headers = {"Retry-After": str(max(1, wait))}
    elif refused.code == "TOO_MANY_REQUESTS":
        headers = {"Retry-After": str(MINUTE)}
    return Response({"error": refused.code, "detail": refused.detail}, STATUS[refused.code], headers=headers)


def _as_contract_error(error: Exception) -> ContractError:
    if isinstance(error, ContractError):
        return error
    if isinstance(error, exceptions.ValidationError):
        return ContractError("BAD_PARAMETER", _first_fault(error.detail))
    for kind, code, detail in KINDS:
        if isinstance(error, kind):
            return ContractError(code, detail or str(error))
    return ContractError("SERVER_ERROR", "The failure has been logged: tell the operator when it happened.")


def _first_fault(detail: Any, path: str = "") -> str:
    """The first message in REST framework's nested lists and dicts, with the field's path before it."""
    if isinstance(detail, list) and isinstance(detail[0], str):
        return f"{path}: {detail[0]}"
    items = detail.items() if isinstance(detail, dict) else enumerate(detail)
    key, inner = next((key, inner) for key, inner in items if inner)
    if isinstance(key, int):
        return _first_fault(inner, f"{path}[{key}]")
    name = "" if key == api_settings.NON_FIELD_ERRORS_KEY else key
    return _first_fault(inner, f"{path}.{name}".strip("."))
