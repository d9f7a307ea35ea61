"""An installation of an older commit is upgraded while its processes run, and loses nothing.

capture.py made what is upgraded. Each way to have it is tried: the private home, and its dump restored.
"""

import asyncio
import json
import lzma
import os
import pwd
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from capture import CALLS, rows, token
from django_otp.oath import totp
from drill_load import DEVICES, STARTS, Mix
from private_place import REST_CHANNEL, Place, manage
from stack import Stack

from thingscale.local.data_directory import ACCOUNTS
from thingscale.local.servers import ALL, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.drill, pytest.mark.timeout(300)]

CAPTURED = Path(__file__).parent / "339bf98"
OLD_WEB = ["-m", "uvicorn", "thingscale.asgi:application", "--http", "thingscale.one_write:OneWrite"]
SECONDS = 60.0
# Tables whose rows end by themselves, or with the processes of before.
PASSING = {"accounts_session", "devices_mqttsession", "streams_journal", "streams_repeated"}
PASSING |= {"django_session", "streams_stalehour", "streams_deletedtag", "streams_deletedchannel"}
PASSING |= {"devices_minutecount", "devices_durablesession"}
GROWS = ("/usage_bytes", "/avg_obj_size")  # more is counted since
PAGES = ("/", "/channels/", "/channels/1/", "/devices/", "/streams/1/", "/inspector/", "/profile/", "/rules/")


@dataclass
class Installation:
    servers: Servers
    old: Stack
    new: Stack
    expected: dict[str, Any]
    url: str  # of the database
    web: Stack  # whose answers are compared

    @property
    def secrets(self) -> dict[str, Any]:
        secrets: dict[str, Any] = self.expected["secrets"]
        return secrets

    def place(self, stack: Stack) -> Place:
        """For the senders of the drills, as an account of their own."""
        tokens = self.secrets["load"]
        return Place(
            self.servers, stack, self.secrets["load_user_id"], tokens["device"], tokens["api"], self.url
        )

    def get(self, path: str, name: str = "first", **headers: str) -> Any:
        headers = {key.replace("_", "-"): text for key, text in headers.items()}
        answer = requests.get(
            self.web.url(path), headers=headers | {"X-APITOKEN": token(self.secrets, name)}, timeout=SECONDS
        )
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()


def unpack(name: str, folder: Path) -> None:
    with tarfile.open(CAPTURED / name) as archive:
        archive.extractall(folder, filter="tar")  # with the modes that PostgreSQL insists on


def give_to_postgres(home: Path) -> None:
    """Packed as nobody's in particular; PostgreSQL refuses to run as root, and wants data of its own."""
    if os.geteuid() != 0:
        return
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = next(known[name] for name in ACCOUNTS if name in known)
    for folder, _, files in os.walk(home / "postgres"):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            os.chown(path, account.pw_uid, account.pw_gid)


@contextmanager
def private_home(folder: Path) -> Iterator[Servers]:
    servers = Servers(folder / "home", ALL, fast=True)
    with servers:
        yield servers


@contextmanager
def restored_dump(folder: Path) -> Iterator[Servers]:
    servers = Servers(want=ALL, fast=True)
    with servers:
        sql = lzma.decompress((CAPTURED / "dump.sql.xz").read_bytes())
        psql = servers.postgres.directory.install / "bin" / "psql"
        command = [str(psql), "-q", "-v", "ON_ERROR_STOP=1", servers.postgres.url]
        subprocess.run(command, input=sql, stdout=subprocess.DEVNULL, check=True, timeout=SECONDS)
        yield servers


@pytest.fixture(params=[private_home, restored_dump])
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    folder = Path(tempfile.mkdtemp(prefix="thingscale-upgrade-"))
    folder.chmod(0o755)
    unpack("code.tar.xz", folder)
    unpack("home.tar.xz", folder)
    give_to_postgres(folder / "home")
    expected = json.loads((CAPTURED / "expected.json").read_text())
    with request.param(folder) as servers:
        environment = {name: text for server in servers.wanted for name, text in server.environment().items()}
        environment["THINGSCALE_SECRET_KEY"] = (folder / "home" / "secret_key").read_text().strip()
        environment |= {"PYTHONPATH": "", "THINGSCALE_REST_RATE": "1000000"}
        old = Stack(**environment)
        old.code, old.web = folder / "code", OLD_WEB
        new = Stack(**environment | {"PYTHONPATH": "tests", "MQTT_URL": "", "MQTT5_URL": ""})
        try:
            yield Installation(servers, old, new, expected, servers.postgres.url, old)
        finally:
            new.stop()
            old.stop()
    shutil.rmtree(folder)


def contains(found: Any, expected: Any, where: str = "") -> None:
    """What was there is there, unaltered; an object may have got more keys."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        assert expected.keys() <= found.keys(), f"{where}: {expected.keys() - found.keys()} are missing"
        for key, value in expected.items():
            contains(found[key], value, f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            contains(one, other, f"{where}[{number}]")
    elif where.endswith(GROWS):
        assert found >= expected, where
    else:
        assert found == expected, where


def check_answers(installation: Installation) -> None:
    for name, path, headers in CALLS:
        answer = installation.get(path, name, **headers)
        contains(answer, installation.expected["answers"][f"{name} {path}"], f"{name} {path}")


def check_rows(installation: Installation, before: Mapping[str, int]) -> None:
    """No table has gone, and none has lost a row but those whose rows pass."""
    now = rows(installation.url)
    assert before.keys() <= now.keys()
    fewer = {name for name, count in before.items() if now[name] < count}
    assert fewer <= PASSING
    assert now["mqtt_session"] >= before["devices_durablesession"] > 0  # they go on there
    assert now["mqtt_subscription"] > 0


def check_console(installation: Installation, stack: Stack) -> None:
    """The browser that was signed in still is, and each page opens."""
    cookies = {"sessionid": installation.secrets["sessionid"]}
    for path in PAGES:
        answer = requests.get(stack.url(path), cookies=cookies, timeout=SECONDS, allow_redirects=False)
        assert answer.status_code == 200, (path, answer.status_code, answer.headers.get("Location"))
    held = requests.get(stack.url("/devices/?q=unmapped"), cookies=cookies, timeout=SECONDS)
    assert "unmapped" in held.text


def check_sign_in(installation: Installation, code: str) -> None:
    """With the password, then with the second factor."""
    browser = requests.Session()

    def submit(path: str, **fields: str) -> requests.Response:
        browser.get(installation.new.url(path), timeout=SECONDS)
        form = fields | {"csrfmiddlewaretoken": browser.cookies["csrftoken"] or ""}
        return browser.post(installation.new.url(path), form, timeout=SECONDS)

    answer = submit("/signin/", username="admin@localhost", password=installation.secrets["password"])
    assert answer.url.endswith("/signin/code/"), answer.url
    answer = submit("/signin/code/", code=code)
    assert answer.status_code == 200
    assert "/signin/" not in answer.url


def prepare_load(installation: Installation) -> None:
    """The devices that the drills' senders are."""
    headers = {"X-APITOKEN": installation.secrets["load"]["api"]}
    next(STARTS)  # numbers of the captured datapoints
    for number in (0, REST_CHANNEL):
        requests.post(installation.old.url(f"/v2/channel/{number}"), headers=headers, timeout=SECONDS)
    for device in DEVICES:
        url = installation.old.url(f"/v2/device/{device}")
        answer = requests.post(url, json={"mapped_ch": 0}, headers=headers, timeout=SECONDS)
        assert answer.status_code == 201, answer.text


async def upgrade(installation: Installation) -> list[Mix]:
    """Messages come in all the time: by the old processes, by both at once, by the new ones; and back, by the
    old ones on the new tables."""
    old, new = installation.place(installation.old), installation.place(installation.new)
    before, beside = Mix(old, arrays=False), Mix(old, arrays=False)
    after, last = Mix(new), Mix(new)
    async with before.flowing(SECONDS):
        await before.moves(SECONDS)
        await asyncio.to_thread(manage, installation.new, "migrate", "--verbosity", "0")
        await before.moves(SECONDS)
    await asyncio.to_thread(check_answers, installation)  # of the old web process, on the new tables
    await asyncio.to_thread(check_console, installation, installation.old)
    await asyncio.to_thread(installation.new.ensure, "web", "ingest", "celery")
    async with beside.flowing(SECONDS):
        async with after.flowing(SECONDS):
            await beside.moves(SECONDS)
            await after.moves(SECONDS)
        for sender in beside.senders[::2]:
            sender.move(installation.new.mqtt)  # a client comes back to a process of the new release
        await beside.moves(SECONDS)
        for sender in beside.senders:
            sender.move(installation.new.mqtt)
    await asyncio.to_thread(installation.old.stop)
    async with last.flowing(SECONDS):
        await last.moves(SECONDS)
    await asyncio.to_thread(installation.old.ensure, "web", "ingest", "celery")
    back = Mix(old, arrays=False)
    async with back.flowing(SECONDS):
        await back.moves(SECONDS)
        await asyncio.to_thread(installation.new.stop)
        await back.moves(SECONDS)
    await asyncio.to_thread(check_answers, installation)
    await asyncio.to_thread(check_console, installation, installation.old)
    await asyncio.to_thread(installation.old.stop)
    await asyncio.to_thread(installation.new.ensure, "web", "ingest", "celery")
    return [before, beside, after, last, back]


def test_upgraded_while_the_old_processes_run(installation: Installation) -> None:
    before = rows(installation.url)
    captured = installation.expected["rows"]
    assert {name for name, count in captured.items() if before[name] != count} <= PASSING
    installation.old.ensure("web", "ingest", "celery")
    check_answers(installation)
    prepare_load(installation)
    mixes = asyncio.run(upgrade(installation))
    installation.web = installation.new
    for mix in mixes:
        mix.check()
    check_answers(installation)
    check_rows(installation, before)
    check_console(installation, installation.new)
    codes = iter(installation.secrets["recovery_codes"])
    check_sign_in(installation, next(codes))
    check_sign_in(installation, f"{totp(bytes.fromhex(installation.secrets['totp_key'])):06d}")
    for process in installation.new.processes.values():
        assert process.poll() is None
