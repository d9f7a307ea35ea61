"""Operators see each gateway with its figures, and which one a client is connected to; others do not."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from client import Client as MqttClient
from client import Endpoint
from django.test import Client
from playwright.sync_api import Browser
from stack import Stack, wait_until
from support import Account
from test_every_page import AXE, SERIOUS
from visiting import NARROW, WIDE, visit

from thingscale.accounts.models import User
from thingscale.devices.models import GatewayProcess, MqttSession

pytestmark = pytest.mark.e2e
SECONDS = 30
CLIENTS = 3
MESSAGES = 5
HEALTH = "/admin/health/"


@pytest.fixture
def two(no_shared_stack: None, account: Account) -> Iterator[tuple[Stack, Stack]]:
    """Gateways; the first one has clients that publish, the second one has one."""
    User.objects.filter(pk=account.user.pk).update(is_staff=True, is_superuser=True)
    account.device("d1")
    with ExitStack() as ended:
        stacks = Stack(), Stack()
        for stack, count in zip(stacks, (CLIENTS, 1), strict=True):
            ended.callback(stack.stop)
            stack.ensure("ingest")
            endpoint = Endpoint(stack.mqtt, account.user_id, account.device_token.encode())
            for number in range(count):
                client = MqttClient(endpoint, f"d1_{count}{number}")
                client.connect()
                ended.callback(client.vanish)
                for _ in range(MESSAGES):
                    client.publish(f"{account.device_token}/json/d1")
        wait_until(lambda: MqttSession.objects.count() == CLIENTS + 1, SECONDS, "all to be listed")
        wait_until(
            lambda: (
                sum(GatewayProcess.objects.values_list("messages", flat=True)) == (CLIENTS + 1) * MESSAGES
            ),
            SECONDS,
            "their messages to be counted",
        )
        yield stacks


def cells(page: str, label: str) -> list[str]:
    found = re.findall(rf'<td data-label="{label}"[^>]*>(.*?)</td>', page)
    return [re.sub("<.*?>", "", text) for text in found]


def test_the_figures_of_each_gateway_and_their_sum(
    two: tuple[Stack, Stack], account: Account, signed_in: Any
) -> None:
    page = signed_in(account).get(HEALTH).text
    processes = [stack.processes["ingest"].pid for stack in two]
    names = [f"{socket.gethostname()}/{pid}" for pid in sorted(processes)]
    clients = [str(CLIENTS if pid == processes[0] else 1) for pid in sorted(processes)]
    assert cells(page, "Gateway") == [*names, "All 2"]
    assert cells(page, "Clients") == [*clients, str(CLIENTS + 1)]
    assert cells(page, "In all")[-1] == str((CLIENTS + 1) * MESSAGES)
    two[0].kill("ingest")
    wait_until(
        lambda: len(cells(signed_in(account).get(HEALTH).text, "Gateway")) == 1, SECONDS, "one to be gone"
    )
    assert cells(signed_in(account).get(HEALTH).text, "Clients") == ["1"]


def test_a_gateway_of_another_release_has_no_figures(
    two: tuple[Stack, Stack], account: Account, signed_in: Any
) -> None:
    """While machines are updated one after the other: it holds its lock, and has no row."""
    client = signed_in(account)
    GatewayProcess.objects.filter(pid=two[1].processes["ingest"].pid).delete()
    page = client.get(HEALTH)
    assert page.status_code == 200
    assert "of another release" in cells(page.text, "Gateway")


def test_only_operators_see_which_gateway_has_a_client(
    two: tuple[Stack, Stack], account: Account, signed_in: Any
) -> None:
    device = account.device("d2")
    path = f"/devices/{device.pk - 1}/"
    client: Client = signed_in(account)
    names = [f", at {socket.gethostname()}/{stack.processes['ingest'].pid}" for stack in two]
    assert [client.get(path).text.count(name) for name in names] == [CLIENTS, 1]
    User.objects.filter(pk=account.user.pk).update(is_staff=False, is_superuser=False)
    page = client.get(path).text
    assert "d1_30" in page
    assert f", at {socket.gethostname()}/" not in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_in_the_browser(
    two: tuple[Stack, Stack], browser: Browser, account: Account, viewport: Any, scheme: str
) -> None:
    two[0].ensure("web")
    with visit(browser, two[0], account, viewport, color_scheme=scheme) as visitor:
        page = visitor.go(HEALTH)
        page.evaluate(AXE.read_text())
        assert page.evaluate(SERIOUS) == []
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        if shots := os.environ.get("SHOTS"):
            page.screenshot(path=f"{shots}/health-{viewport['width']}-{scheme}.png", full_page=True)
            page = visitor.go(f"/devices/{account.user.devices.get().pk}/")
            page.screenshot(path=f"{shots}/device-{viewport['width']}-{scheme}.png", full_page=True)
