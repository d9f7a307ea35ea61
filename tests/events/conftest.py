"""Two users; a mail server; the threads that send."""

from collections.abc import Iterator
from ipaddress import ip_network

import psycopg
import pytest
from aiosmtpd.controller import Controller
from mails import MailServer
from pytest_django import Settings
from stack import free_port

from thingscale.accounts.actions import create_account
from thingscale.accounts.models import User
from thingscale.events.delivery import Deliveries
from thingscale.processes import own_connection


@pytest.fixture
def user(db: None, settings: Settings) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return create_account("a@example.com", "correct horse battery")


@pytest.fixture
def other_user(user: User) -> User:
    return create_account("b@example.com", "correct horse battery")


@pytest.fixture
def mail_server(settings: Settings) -> Iterator[MailServer]:
    handler = MailServer()
    controller = Controller(handler, hostname="127.0.0.1", port=free_port())
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", controller.port
    settings.EMAIL_HOST_USER, settings.EMAIL_USE_TLS, settings.EMAIL_USE_SSL = "", False, False
    yield handler
    controller.stop()


@pytest.fixture
def here(settings: Settings) -> None:
    """Receivers on this machine are allowed."""
    settings.NOTIFY_NETWORKS = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def deliveries(here: None, transactional_db: None) -> Iterator[Deliveries]:
    running = Deliveries()
    running.start()
    yield running
    running.stop(10)
    assert not running._thread.is_alive()


@pytest.fixture
def connection(transactional_db: None) -> Iterator[psycopg.Connection]:
    """As the worker has it."""
    with own_connection.connect("thingscale-events") as connection:
        yield connection
