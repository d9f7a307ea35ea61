"""An owner, an outsider, and a client for each."""

from collections.abc import Callable

import pytest
from api_calls import Caller
from pytest_django import Settings

from thingscale.accounts.actions import create_account
from thingscale.accounts.models import User
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel


@pytest.fixture
def make_user(db: None, settings: Settings) -> Callable[..., User]:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # as slow as need be

    def make(email: str, locale: str = "UTC") -> User:
        return create_account(email, "correct horse battery", locale)

    return make


@pytest.fixture
def owner(make_user: Callable[..., User]) -> User:
    return make_user("owner@example.com", "Asia/Tokyo")


@pytest.fixture
def api(owner: User) -> Caller:
    return Caller(owner)


@pytest.fixture
def outsider(make_user: Callable[..., User]) -> Caller:
    return Caller(make_user("outsider@example.com"))


@pytest.fixture
def channel(owner: User) -> Channel:
    return create_channel(owner, 0, name="sensor_1")
