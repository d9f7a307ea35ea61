"""`manage.py simulate` against the running connectors."""

import asyncio
import io
import re
import signal
from collections.abc import Callable

import pytest
import uvloop
from django.core.management import CommandError, call_command
from django.db import connection
from stack import Stack, free_port, wait_until
from support import Account

from ingest.simulate import devices, report
from ingest.simulate.mqtt import WINDOW, MqttSender
from thingscale.devices.models import Device
from thingscale.streams.models import Channel

pytestmark = pytest.mark.e2e


def simulate(running: Stack, **options: object) -> str:
    """Its report."""
    out = io.StringIO()
    ports = {"mqtt_port": running.mqtt, "http_port": running.http}
    call_command("simulate", stdout=out, **(ports | {"duration": 1.2, "devices": 14, "rate": 100} | options))
    return out.getvalue()


def figure(shown: str, name: str) -> int:
    match = re.search(rf"^{name} +([\d,]+)", shown, re.MULTILINE)
    assert match, shown
    return int(match[1].replace(",", ""))


def rows(account: Account, number: int = 1000) -> int:
    return len(account.stored(number))


@pytest.mark.parametrize("protocol", ["mqtt", "http", "mixed"])
def test_it_sends_through_the_connectors_and_finds_what_it_sent(
    stack: Callable[..., Stack], account: Account, protocol: str
) -> None:
    shown = simulate(stack(), protocol=protocol)
    assert figure(shown, "acknowledged") == figure(shown, "sent") > 50
    assert figure(shown, "refused") == figure(shown, "unanswered") == 0
    assert figure(shown, "found stored") == rows(account) > 50
    assert "nothing is stored twice" in shown


@pytest.mark.parametrize("qos", [0, 2])
def test_other_qualities_of_service(stack: Callable[..., Stack], account: Account, qos: int) -> None:
    shown = simulate(stack("ingest"), protocol="mqtt", qos=qos)
    assert figure(shown, "acknowledged") == (figure(shown, "sent") if qos else 0)
    wait_until(lambda: rows(account) > 50)


def test_each_kind_of_device_sends_its_kind_of_data(stack: Callable[..., Stack], account: Account) -> None:
    simulate(stack("ingest"), protocol="mqtt", devices=7)
    values = [value for value, _ in account.stored(1000)]
    assert any('"humidity"' in value for value in values)
    assert any('"position"' in value for value in values)
    assert any('"value3"' in value for value in values)
    assert any(re.fullmatch('"04[0-9A-F]{12}"', value) for value in values)
    assert any(re.fullmatch('"[0-9a-f]{22}"', value) for value in values)
    assert {tag for _, tag in account.stored(1000)} == {None, "in", "out"}
    assert Device.objects.filter(state__has_key="battery").count() == 1


def test_a_flapping_device_reconnects_and_nothing_is_stored_twice(
    stack: Callable[..., Stack], account: Account
) -> None:
    shown = simulate(stack("ingest"), protocol="mqtt", devices=5, rate=200, duration=3)
    assert figure(shown, "sent again") > 0
    assert "nothing is stored twice" in shown


def test_the_channel_and_the_account_can_be_chosen(
    stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    outsider.channel(7)
    shown = simulate(stack("ingest"), protocol="mqtt", user=outsider.user_id, channel=7, duration=0.5)
    assert rows(outsider, 7) == figure(shown, "found stored") > 0
    assert not Channel.objects.for_account(account.user).exists()
    assert not Device.objects.for_account(account.user).exists()


def test_what_is_refused_is_counted_by_its_reason(stack: Callable[..., Stack], account: Account) -> None:
    """Every insert is followed by a trigger that disables the device, as an administrator might."""
    running = stack()
    with connection.cursor() as cursor:
        cursor.execute(DISABLING)
    try:
        shown = simulate(running, protocol="mixed")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION disable_device CASCADE")
    assert figure(shown, "refused") == figure(shown, "sent") > 0
    assert re.search(r"\d NOT_AUTHORIZED", shown)
    assert re.search(r"\d 403 DEVICE_DISABLED", shown)
    assert figure(shown, "found stored") == 0


DISABLING = """
CREATE FUNCTION disable_device() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.enabled := false; RETURN NEW; END $$;
CREATE TRIGGER disable BEFORE UPDATE ON devices_device FOR EACH ROW EXECUTE FUNCTION disable_device();
"""


FIRST = "(SELECT min(d.id) FROM datapoint d JOIN devices_device v ON v.id = d.device)"
LOSE = f"DELETE FROM datapoint WHERE id = {FIRST}"
DOUBLE = f"""INSERT INTO datapoint (channel, at, device, dedupe, tag, value)
SELECT channel, at, device, dedupe, tag, value FROM datapoint WHERE id = {FIRST}"""


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        pytest.param(LOSE, "MISSING 1, STORED TWICE 0", id="lost"),
        pytest.param(DOUBLE, "MISSING 0, STORED TWICE 1", id="doubled"),
    ],
)
def test_it_fails_where_something_acknowledged_is_missing_or_doubled(
    stack: Callable[..., Stack],
    account: Account,
    statement: str,
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = stack("ingest")
    find = report.find

    def tampered(user: int, run: str) -> dict[str, report.StoredByDevice]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
        return find(user, run)

    monkeypatch.setattr(report, "find", tampered)
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command(
            "simulate", stdout=out, mqtt_port=running.mqtt, protocol="mqtt", duration=0.5, devices=3, rate=50
        )
    assert ended.value.code == 1
    assert verdict in out.getvalue()


def test_ctrl_c_ends_it_early_with_the_report(stack: Callable[..., Stack], account: Account) -> None:
    running = stack()
    ports = ["--mqtt-port", str(running.mqtt), "--http-port", str(running.http)]
    with running.manage("simulate", "--duration", "60", "--rate", "100", *ports) as process:
        wait_until(lambda: rows(account) > 20 or process.poll() is not None, 60, "datapoints")
        assert process.poll() is None, process.communicate()
        assert process.stdout
        while "acknowledged" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert figure(shown, "found stored") == rows(account)
    assert not errors


def test_without_an_account_it_says_so(transactional_db: None) -> None:
    with pytest.raises(CommandError, match="no account yet"):
        call_command("simulate")


def test_a_device_keeps_only_so_much_while_the_server_is_away() -> None:
    async def offer_much() -> int:
        device = devices.make("sim-x-0", 0, 1, over_http=False)
        sender = MqttSender(device, ("127.0.0.1", free_port()), "U000001", "0" * 32, 1)
        task = asyncio.create_task(sender.run())
        accepted = sum(sender.offer() for _ in range(1000))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return accepted

    assert asyncio.run(offer_much()) == WINDOW


def test_a_reading_for_a_connection_that_has_just_ended_waits_for_the_next_one() -> None:
    """uvloop's transport raises where asyncio's would be silent, and that ended the whole run."""

    async def offer() -> int:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.close()
            await writer.wait_closed()
            sender = MqttSender(devices.make("d", 0, 1, over_http=False), ("127.0.0.1", 1), "U1", "t", 1)
            sender._writer = writer
            assert sender.offer()
            await sender.close()
            return sender.waiting

    assert uvloop.run(offer()) == 1
