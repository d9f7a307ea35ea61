from collections.abc import Callable

import pytest
from django.test import Client
from support import Account


@pytest.fixture
def signed_in() -> Callable[[Account], Client]:
    """A client with a session of the account."""

    def sign_in(account: Account) -> Client:
        client = Client()
        client.force_login(account.user)
        return client

    return sign_in
