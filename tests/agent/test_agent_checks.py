"""Ports, URLs and certificates, against real servers."""

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from servwatch_agent import checks
from servwatch_agent.config import Check

DAY = timedelta(days=1)


def certificate(folder: Path, ends: timedelta) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 100 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(files[0]), str(files[1])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/health": 200, "/moved": 302}.get(self.path, 500))
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def server(tls: tuple[str, str] | None = None) -> Iterator[int]:
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        serving.socket = context.wrap_socket(serving.socket, server_side=True)
    thread = threading.Thread(target=serving.serve_forever, args=[0.05], daemon=True)
    thread.start()
    yield serving.server_port
    serving.shutdown()
    serving.server_close()
    thread.join(60)


def check(port: int, path: str = "", scheme: str = "http", ca_file: str | None = None) -> Check:
    url = f"{scheme}://127.0.0.1:{port}{path}" if path else ""
    return Check("web", "127.0.0.1", port, url, 60, 5, ca_file)


def test_a_port_and_a_page() -> None:
    with server() as port:
        tcp = checks.run(check(port))
        assert tcp["up"] == 1
        assert tcp["ms"] > 0
        page = checks.run(check(port, "/health"))
        assert (page["up"], page["status"]) == (1, 200)
        assert checks.run(check(port, "/moved"))["status"] == 302, "a redirect is an answer"
        bad = checks.run(check(port, "/other"))
        assert (bad["up"], bad["status"]) == (0, 500)
    assert checks.run(check(port)) == {"up": 0}
    assert checks.run(check(port, "/health")) == {"up": 0}


def test_who_does_not_answer_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert checks.run(check(port, "/health")._replace(seconds=0.1)) == {"up": 0}


@pytest.mark.parametrize(("days", "up"), [(30, 1), (-3, 0)])
def test_days_of_a_certificate_also_of_one_that_has_ended(tmp_path: Path, days: int, up: int) -> None:
    tls = certificate(tmp_path, days * DAY)
    with server(tls) as port:
        found = checks.run(check(port, "/health", "https", tls[0]))
        assert found["up"] == up
        assert found["certificate_days"] == pytest.approx(days, abs=0.1)


def test_a_certificate_that_nobody_trusts_has_no_days(tmp_path: Path) -> None:
    with server(certificate(tmp_path, 30 * DAY)) as port:
        assert checks.run(check(port, "/health", "https")) == {"up": 0}


def test_a_summary() -> None:
    results: dict[str, dict[str, float]] = {
        "a": {"up": 1, "certificate_days": 20.5},
        "b": {"up": 0},
        "c": {"up": 1, "certificate_days": 3.0},
    }
    assert checks.summary(dict(results)) == {"failed": 1, "certificate_days": 3.0, **results}
    assert checks.summary({"b": {"up": 1}}) == {"failed": 0, "b": {"up": 1}}


SYSTEMCTL = r"""#!/bin/sh
case "$1" in
list-units)
    printf 'bad.service loaded failed failed Bad\nworse.service loaded failed failed Worse\n' ;;
show)
    printf 'Id=nginx.service\nActiveState=active\nNRestarts=2\n\n'
    printf 'Id=bad.service\nActiveState=failed\nNRestarts=7\n' ;;
esac
"""


def test_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.units(("nginx.service",)) is None
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    assert checks.units(("nginx.service", "bad.service")) == {
        "failed": 2,
        "nginx.service": {"active": 1, "restarts": 2},
        "bad.service": {"active": 0, "restarts": 7},
    }
    assert checks.units(()) == {"failed": 2}
