"""B1: an answer that nobody reads ends, one that is read slowly does not."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from raw_http import INODE, connection_line
from stack import Stack, wait_until
from support import Account

pytestmark = pytest.mark.e2e
SWAGGER = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"  # 1.5 MB
MORE_THAN_BUFFERS = 10  # answers
PART = 100_000  # bytes
RATE = 1_500_000  # bytes a second: the system asks for more after a third of its buffer, in about a second


@pytest.fixture
def impatient(account: Account) -> Iterator[Stack]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    running = Stack(DJANGO_SETTINGS_MODULE="impatient_settings", PYTHONPATH=path)
    running.start("web")
    yield running
    running.stop()


@contextmanager
def asking(port: int, times: int, buffer: int) -> Iterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET {SWAGGER} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * times)
        yield client


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_b1_an_answer_that_is_not_read_ends(impatient: Stack) -> None:
    with asking(impatient.http, MORE_THAN_BUFFERS, 4096) as client:
        client.recv(1)
        ports = (impatient.http, client.getsockname()[1])
        assert connection_line(*ports)[INODE] != "0"
        # The server has closed it, and what the system still tries to send belongs to no process.
        wait_until(lambda: connection_line(*ports)[INODE] == "0", 60, "the server to let it go")


def test_b1_an_answer_that_is_read_slowly_has_time_for_its_size(impatient: Stack) -> None:
    with asking(impatient.http, MORE_THAN_BUFFERS, 65536) as client:
        begun, size = time.monotonic(), 0
        while size < 8_000_000:
            data = client.recv(PART)
            assert data
            size += len(data)
            time.sleep(max(0.0, begun + size / RATE - time.monotonic()))
