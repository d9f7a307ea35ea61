"""HTTPS with the certificate of all listeners, renewed while it is used."""

import contextlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from stack import Stack, wait_until
from support import Account

pytestmark = pytest.mark.e2e


def make_pair(folder: Path, name: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj"
    files = ["-keyout", str(key), "-out", str(cert), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), f"/CN={name}", *files], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for source, name in zip(make_pair(tmp_path, "first"), ("used.crt", "used.key"), strict=True):
        shutil.copy(source, tmp_path / name)
    return tmp_path


@pytest.fixture
def secure(account: Account, folder: Path) -> Iterator[Stack]:
    account.device("d1")
    running = Stack(THINGSCALE_TLS_CERT=str(folder / "used.crt"), THINGSCALE_TLS_KEY=str(folder / "used.key"))
    running.ensure("web", "ingest")
    yield running
    running.stop()


def served(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=20)


def test_h17_https_serves_and_follows_its_files_under_load(
    secure: Stack, folder: Path, account: Account
) -> None:
    url = f"https://127.0.0.1:{secure.https}"
    headers = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    trusted = folder / "all.crt"
    new_cert, new_key = make_pair(folder, "second")
    trusted.write_bytes((folder / "first.crt").read_bytes() + new_cert.read_bytes())
    kept = requests.Session()
    assert kept.post(f"{url}/post_v2/", b"1", headers=headers, timeout=20, verify=str(trusted)).text == "OK"
    assert kept.get(f"{url}/signin/", timeout=20, verify=str(trusted)).status_code == 200
    failures: list[Exception] = []
    done = threading.Event()

    def handshakes() -> None:
        while not done.is_set():
            try:
                requests.get(f"{url}/healthz", timeout=20, verify=str(trusted)).raise_for_status()
            except requests.RequestException as error:
                failures.append(error)

    loads = [threading.Thread(target=handshakes) for _ in range(3)]
    for load in loads:
        load.start()
    with contextlib.ExitStack() as at_end:
        for load in loads:
            at_end.callback(load.join, 30)
        at_end.callback(done.set)
        shutil.copy(new_cert, folder / "used.crt")  # without its key
        wait_until(lambda: "can't be used" in secure.log("web"), 30, "half a renewal to be seen")
        assert served(secure.https) == (folder / "first.crt").read_text()
        shutil.copy(new_key, folder / "used.key")
        ports = (secure.https, secure.tls, secure.wss)
        wait_until(lambda: {served(port) for port in ports} == {new_cert.read_text()}, 60, "the renewal")
        assert (
            kept.post(f"{url}/post_v2/", b"2", headers=headers, timeout=20, verify=str(trusted)).text == "OK"
        )
    assert failures == []
