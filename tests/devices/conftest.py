"""An owner and an outsider."""

import pytest
from pytest_django import Settings

from thingscale.accounts.actions import create_account
from thingscale.accounts.models import User


@pytest.fixture
def user(db: None, settings: Settings) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return create_account("a@example.com", "correct horse battery")


@pytest.fixture
def outsider(user: User) -> User:
    return create_account("b@example.com", "correct horse battery")
