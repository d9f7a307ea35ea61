"""The platform behind each proxy, as deploy/ sets it up: devices, live pages, large bodies, long answers, and
logs without secrets."""

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from mqtt_clients import V5_PAHO, Device, certificate
from requests.adapters import HTTPAdapter
from stack import Stack, answers, free_port, wait_until
from support import PASSWORD, Account
from test_long_ranges import WHOLE, fill
from websockets.asyncio.client import connect as open_websocket
from websockets.typing import Origin

from thingscale.accounts.models import Session
from thingscale.devices.models import MqttSession
from thingscale.intakes.actions import create_intake

pytestmark = pytest.mark.e2e
DEPLOY = Path(__file__).parents[2] / "deploy"
SECONDS = 60
PASSWORD_HASH = PBKDF2PasswordHasher().encode(PASSWORD, "salt")  # which the web process knows
NGINX, HAPROXY = "127.0.0.2", "127.0.0.77"  # where they connect from; clients come from elsewhere
BROWSER = "127.0.0.200"
LINES = 5_000
ROWS = 50_000


class Front(NamedTuple):
    """What clients see, with the names that `Device` knows."""

    http: int
    https: int
    mqtt: int
    tls: int
    ws: int  # not served
    wss: int
    environment: dict[str, str]  # with the certificate
    log: Callable[[], str]


def program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_ports() -> tuple[int, int, int, int, int, int]:
    return free_port(), free_port(), free_port(), free_port(), free_port(), free_port()


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Each has to be there."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def running(command: list[str], stack: Stack, log: Path, port: int, **variables: str) -> Iterator[None]:
    """The platform first: haproxy takes what it does not find for away, and looks again later."""
    stack.ensure("web", "ingest")
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | variables)
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, SECONDS, command[0])
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


def stack_behind(folder: Path, **settings: str) -> Stack:
    stack = Stack(**settings)
    stack.environment |= certificate(folder)
    return stack


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[Stack, Front]]:
    """It has the certificate, and the platform has none."""
    binary = program("nginx")
    pair = certificate(folder)
    stack = Stack(THINGSCALE_PROXY_NETWORKS=NGINX)
    front = Front(*free_ports(), pair, (folder / "access.log").read_text)
    # Where Debian keeps its modules, beside the program.
    module = Path(binary).resolve().parents[1] / "lib" / "nginx" / "modules" / "ngx_stream_module.so"
    if not module.exists():
        pytest.skip("nginx's stream module is not installed (Debian: libnginx-mod-stream)")
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    listening = {
        "443": front.https,
        "80": front.http,
        "1883": front.mqtt,
        "8883": front.tls,
        "8084": front.wss,
    }
    text = replaced(
        (DEPLOY / "nginx.conf").read_text(),
        ("user www-data;\n", ""),
        ("/run/nginx.pid", f"{folder}/pid"),
        ("include /etc/nginx/modules-enabled/*.conf", f"load_module {module}"),
        ("worker_connections 50000", "worker_connections 500"),
        ("worker_rlimit_nofile 100000;\n", ""),
        ("/var/log/nginx", str(folder)),
        ("http {\n", f"http {{\n{temporary}"),
        ("/etc/letsencrypt/live/iot.example.com/fullchain.pem", pair["THINGSCALE_TLS_CERT"]),
        ("/etc/letsencrypt/live/iot.example.com/privkey.pem", pair["THINGSCALE_TLS_KEY"]),
        ("127.0.0.1:8000", f"127.0.0.1:{stack.http}"),
        ("127.0.0.1:11883", f"127.0.0.1:{stack.mqtt}"),
        ("127.0.0.1:8083", f"127.0.0.1:{stack.ws}"),
    )
    text = re.sub(r"listen (\d+)", lambda found: f"listen 127.0.0.1:{listening[found[1]]}", text)
    config = folder / "nginx.conf"
    config.write_text(text)
    checked = subprocess.run([binary, "-t", "-c", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    with running([binary, "-c", str(config), "-g", "daemon off;"], stack, folder / "output", front.https):
        yield stack, front


@contextmanager
def caddy(folder: Path) -> Iterator[tuple[Stack, Front]]:
    """MQTT goes to the gateway itself, which has the same certificate."""
    binary = program("caddy")
    stack = stack_behind(folder)
    http, https = free_port(), free_port()
    log = folder / "output"
    mqtt = (stack.mqtt, stack.tls, stack.ws, stack.wss)
    front = Front(http, https, *mqtt, stack.environment, log.read_text)
    pair = stack.environment["THINGSCALE_TLS_CERT"], stack.environment["THINGSCALE_TLS_KEY"]
    config = folder / "Caddyfile"
    config.write_text(
        replaced(
            (DEPLOY / "Caddyfile").read_text(),
            ("admin off\n", "admin off\n\tauto_https disable_redirects\n"),
            ("https://{$DOMAIN} {", f"https://127.0.0.1:{https} {{\n\ttls {' '.join(pair)}"),
            ("http://{$DOMAIN} {", f"http://127.0.0.1:{http} {{"),
        )
    )
    variables = {"WEB": f"127.0.0.1:{stack.http}", "HOME": str(folder)}
    command = [binary, "run", "--adapter", "caddyfile", "--config", str(config)]
    with running(command, stack, log, https, **variables):
        yield stack, front


@contextmanager
def haproxy(folder: Path) -> Iterator[tuple[Stack, Front]]:
    """The platform has the certificate."""
    binary = program("haproxy")
    stack = stack_behind(folder, THINGSCALE_PROXY_NETWORKS=HAPROXY)
    log = folder / "output"
    front = Front(*free_ports(), stack.environment, log.read_text)
    listening = {
        "1883": front.mqtt,
        "8883": front.tls,
        "8084": front.wss,
        "443": front.https,
        "80": front.http,
    }
    behind = {
        "1883": stack.mqtt,
        "8883": stack.tls,
        "8084": stack.wss,
        "8443": stack.https,
        "8000": stack.http,
    }
    text = replaced(
        (DEPLOY / "haproxy.cfg").read_text(),
        ("maxconn 100000", "maxconn 1000"),
        ("default-server send-proxy-v2", f"default-server source {HAPROXY} send-proxy-v2"),
        *((f"bind :{port}\n", f"bind 127.0.0.1:{free}\n") for port, free in listening.items()),
    )
    text = re.sub(r"(?:web|ingest)[12]:(\d+)", lambda found: f"127.0.0.1:{behind[found[1]]}", text)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    subprocess.run([binary, "-c", "-q", "-f", config], check=True)
    with running([binary, "-db", "-f", str(config)], stack, log, front.https):
        yield stack, front


@pytest.fixture(scope="module", params=[nginx, caddy, haproxy], ids=lambda proxy: proxy.__name__)
def _front(
    request: pytest.FixtureRequest, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, Front]]:
    with request.param(tmp_path_factory.mktemp("proxy")) as (stack, front):
        try:
            yield stack, front
        finally:
            stack.stop()


@pytest.fixture
def front(_front: tuple[Stack, Front], account: Account) -> Front:
    stack, front = _front
    account.device("d1")
    account.user.password = PASSWORD_HASH
    account.user.save()
    stack.ensure("web", "ingest")
    wait_until(lambda: served(front), SECONDS, "the platform behind the proxy")
    return front


def served(front: Front) -> bool:
    """haproxy looks every two seconds whether the platform is there."""
    try:
        url = f"https://127.0.0.1:{front.https}/healthz"
        return requests.get(url, verify=front.environment["THINGSCALE_TLS_CERT"], timeout=SECONDS).ok
    except requests.ConnectionError:
        return False


class From(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(BROWSER, 0))


def client(front: Front) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # or REQUESTS_CA_BUNDLE would count, and not what follows
    session.mount("https://", From())
    session.verify = front.environment["THINGSCALE_TLS_CERT"]
    return session


@pytest.mark.parametrize(("transport", "tls"), [("tcp", False), ("tcp", True), ("websockets", True)])
def test_a_device_is_served_and_has_its_own_address(
    front: Front, account: Account, transport: str, tls: bool
) -> None:
    with Device(front, account, "one", V5_PAHO, transport=transport, tls=tls) as device:  # type: ignore[arg-type]
        assert device.subscribe("json/d1") == [1]
        assert device.publish("json/d1", b'{"n": 1}') == 0
        assert device.payloads(1) == [b'{"n": 1}']
        found = MqttSession.objects.filter(user=account.user, client_id="one")
        wait_until(found.exists, SECONDS, "the client to be shown")
        assert found.get().ipaddress == "127.0.0.1"
    assert account.stored() == [('{"n": 1}', None)]


def test_a_live_page_gets_what_comes(front: Front, account: Account) -> None:
    Session.objects.all().delete()
    url = f"https://127.0.0.1:{front.https}"
    with client(front) as browser:
        page = browser.get(f"{url}/signin/", timeout=SECONDS)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        form = {"csrfmiddlewaretoken": token[1], "username": "owner@example.com", "password": PASSWORD}
        headers = {"Referer": f"{url}/signin/", "Origin": url}
        answer = browser.post(f"{url}/signin/", form, headers=headers, timeout=SECONDS, allow_redirects=False)
        assert answer.status_code == 302, answer.text
        cookie = {"Cookie": f"sessionid={browser.cookies['sessionid']}"}
    assert Session.objects.get(user=account.user).ip_address == BROWSER
    asyncio.run(watch(front, account, url, cookie))


async def watch(front: Front, account: Account, url: str, cookie: dict[str, str]) -> None:
    context = ssl.create_default_context(cafile=front.environment["THINGSCALE_TLS_CERT"])
    live = f"wss://127.0.0.1:{front.https}/ws/live/"
    async with open_websocket(live, origin=Origin(url), additional_headers=cookie, ssl=context) as socket:
        assert json.loads(await asyncio.wait_for(socket.recv(), SECONDS)) == {"type": "ready"}
        with Device(front, account, "one", tls=True) as device:  # type: ignore[arg-type]
            await asyncio.to_thread(device.publish, "json/d1", b'{"n": 1}')
        assert "n" in str(json.loads(await asyncio.wait_for(socket.recv(), SECONDS)))


def test_a_large_body_and_a_long_answer_pass(front: Front, account: Account) -> None:
    _, key = create_intake(account.user, {"name": "Servers", "format": "influx"})
    account.device("big", 1)
    fill(account, ROWS, "jsonb_build_object('text', repeat('x', 400), 'n', n)")
    url = f"https://127.0.0.1:{front.https}"
    lines = [f'm,host=big t="{"x" * 400}",n={n} {1_767_225_600 + n}'.encode() for n in range(LINES)]
    body = b"\n".join(lines)
    assert len(body) > 2 * 2**20
    with client(front) as app:
        for sent in (body, iter([body[:700_000], body[700_000:]])):  # with a length, and in chunks
            answer = app.post(f"{url}/in/{key}/write?precision=s", sent, timeout=SECONDS)
            assert answer.status_code == 204, answer.text
        refused = app.post(f"{url}/in/{key}/write", b"x" * 5 * 2**20, timeout=SECONDS)
        assert refused.status_code == 413
        assert "error" in refused.json()  # ours
        headers = {"X-APITOKEN": account.api_token, **WHOLE}
        with app.get(f"{url}/v2/stream/0", headers=headers, timeout=SECONDS, stream=True) as long:
            rows = json.loads(b"".join(long.iter_content(65_536)))["stream"]
    assert len(account.stored(1)) == LINES
    assert [row["value"]["n"] for row in rows] == list(range(1, ROWS + 1))


def test_a_device_without_tls_may_send_and_a_browser_is_sent_to_https(front: Front, account: Account) -> None:
    _, key = create_intake(account.user, {"name": "Ours", "format": "influx"})
    url = f"http://127.0.0.1:{front.http}"
    headers = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    assert requests.post(f"{url}/post_v2/", b'{"n": 1}', headers=headers, timeout=SECONDS).status_code == 200
    line = "m,host=d1 n=2"
    assert requests.post(f"{url}/in/{key}/write", line, timeout=SECONDS).status_code == 204
    for path in ("/", "/signin/", "/v2/user"):
        answer = requests.get(f"{url}{path}", timeout=SECONDS, allow_redirects=False)
        assert answer.status_code == 308
        assert answer.headers["Location"].startswith("https://127.0.0.1")
    assert len(account.stored()) == 2


def test_no_secret_is_in_the_log(front: Front, account: Account) -> None:
    _, key = create_intake(account.user, {"name": "Ours", "format": "influx"})
    reset = "0f0f0f0f0f"
    tokens = {"X-APITOKEN": account.api_token, "X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    secrets = [key, reset, account.api_token, account.device_token, "asked-for"]
    with client(front) as app:
        for url in (f"https://127.0.0.1:{front.https}", f"http://127.0.0.1:{front.http}"):
            app.post(f"{url}/in/{key}/write?u=asked-for", "m,host=d1 n=2", headers=tokens, timeout=SECONDS)
            app.get(f"{url}/in/{key}?p={account.api_token}", headers=tokens, timeout=SECONDS)
            app.get(
                f"{url}/reset/MQ/{reset}/?t={account.device_token}",
                headers=tokens | {"Referer": f"{url}/reset/MQ/{reset}/"},
                timeout=SECONDS,
                allow_redirects=False,
            )
            app.get(f"{url}/v2/user?X-APITOKEN={account.api_token}", timeout=SECONDS, allow_redirects=False)
    with Device(front, account, "one") as device:  # type: ignore[arg-type]
        device.publish("json/d1", b"1")
    before = len(front.log())
    wait_until(lambda: len(front.log()) >= before > 0, SECONDS, "a log")
    text = front.log()
    assert "POST" in text
    assert not [secret for secret in secrets if secret in text]
