"""System checks of the settings. Each has an id, a sentence and a hint."""

import re
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from thingscale.lib import env
from thingscale.processes import secret_key

MIN_KEY_LENGTH = 32


@register()
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    found = [*_secret_key()]
    if bool(settings.TLS_CERT) != bool(settings.TLS_KEY):
        found.append(
            Error(
                "THINGSCALE_TLS_CERT and THINGSCALE_TLS_KEY go together.",
                hint="Set both to PEM files, or neither.",
                id="thingscale.E001",
            )
        )
    if settings.INGEST_MODE not in {"gateway", "broker"}:
        found.append(Error("THINGSCALE_INGEST must be `gateway` or `broker`.", id="thingscale.E002"))
    if sentence := env.unused_broker():
        found.append(Warning(sentence, id="thingscale.W004"))
    found += [*_broker_auth(), *_broker_user()]
    if settings.WHEN_FULL not in {"refuse", "drop_oldest"}:
        found.append(Error("THINGSCALE_WHEN_FULL must be `refuse` or `drop_oldest`.", id="thingscale.E003"))
    if settings.EMAIL_HOST and not settings.PUBLIC_URL and "*" in settings.ALLOWED_HOSTS:
        found.append(
            Warning(
                "Mails can be sent, but no links in them.",
                hint="Set THINGSCALE_PUBLIC_URL to the address that browsers use.",
                id="thingscale.W002",
            )
        )
    if any(network.prefixlen == 0 for network in settings.NOTIFY_NETWORKS):
        found.append(
            Warning(
                "THINGSCALE_NOTIFY_NETWORKS lists every address: accounts can send into your own networks.",
                hint="List only the networks of receivers, and not those of your servers.",
                id="thingscale.W008",
            )
        )
    origin = re.compile(r"https?://[^/\s]+|\*")
    if wrong := sorted(text for text in settings.CORS_ORIGINS if not origin.fullmatch(text)):
        found.append(
            Error(
                f"THINGSCALE_CORS_ORIGINS has {wrong[0]!r}, which is no origin.",
                hint="An origin is like https://dashboard.example.com:"
                " no path, no slash at its end. * is any.",
                id="thingscale.E004",
            )
        )
    return found


def _secret_key() -> list[CheckMessage]:
    """Only warnings, since commands such as `makemigrations` work without a key."""
    if secret_key.is_missing():
        return [Warning(secret_key.MISSING, hint="No server starts like this.", id="thingscale.W001")]
    if len(settings.SECRET_KEY) < MIN_KEY_LENGTH:
        return [
            Warning(
                f"The secret key has less than {MIN_KEY_LENGTH} characters: it might be guessed.",
                hint="Put a longer one in front in THINGSCALE_SECRET_KEYS and run `manage.py reencrypt`.",
                id="thingscale.W003",
            )
        ]
    return []


def _broker_auth() -> list[CheckMessage]:
    if not settings.BROKER_AUTH_SECRET:
        return []
    if settings.INGEST_MODE != "broker":
        return [
            Warning(
                "THINGSCALE_BROKER_AUTH_SECRET is not used: the gateway asks nobody who its clients are.",
                hint="It is for THINGSCALE_INGEST=broker.",
                id="thingscale.W005",
            )
        ]
    variables = {"MQTT_URL": settings.BROKER, "MQTT5_URL": settings.BROKER5}
    found: list[CheckMessage] = []
    if not settings.BROKER_CLIENT_ID.startswith("thingscale-"):
        found.append(
            Warning(
                "THINGSCALE_BROKER_CLIENT_ID does not begin with `thingscale-`: a device could take it.",
                hint="Ids like thingscale-ingest-2 are kept for workers. Who has one gets all messages.",
                id="thingscale.W007",
            )
        )
    return found + [
        Warning(
            f"{variable} has no user name and password, by which a broker that asks us would know us.",
            hint="Give it both, like mqtt://thingscale:PASSWORD@broker:1883.",
            id="thingscale.W006",
        )
        for variable, (_, _, user, password) in variables.items()
        if not user or not password
    ]


def _broker_user() -> list[CheckMessage]:
    """Whoever has the worker's user name may use every topic."""
    user_id = re.compile(r"U\d{6,}")
    named = {"MQTT_URL": settings.BROKER[2], "MQTT5_URL": settings.BROKER5[2]}
    return [
        Error(
            f"The user name in {variable} looks like an account's id.",
            hint="Give the ingest worker another one: that account's devices could use every topic.",
            id="thingscale.E005",
        )
        for variable, user in named.items()
        if user_id.fullmatch(user or "")
    ]
