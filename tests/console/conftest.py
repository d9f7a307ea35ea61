import secrets
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from django.test import Client
from django_ratelimit import core
from pytest_django import Settings
from support import Account

from thingscale.celery import app as celery_app


@pytest.fixture
def signed_in() -> Callable[[Account], Client]:
    """A client with a session of the account."""

    def sign_in(account: Account) -> Client:
        client = Client()
        client.force_login(account.user)
        return client

    return sign_in


@pytest.fixture(autouse=True)
def _fresh_counters(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test counts on another one's tries; and none begins in one window, which is of the clock, and ends
    in the next."""
    settings.RATELIMIT_CACHE_PREFIX = f"test-{secrets.token_hex(8)}:"
    began = time.time()
    monkeypatch.setattr(core, "time", SimpleNamespace(time=lambda: began))


@pytest.fixture
def quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def eager_tasks() -> Iterator[None]:
    """Celery's tasks run where they are asked for."""
    celery_app.conf.task_always_eager = True
    yield
    celery_app.conf.task_always_eager = False
