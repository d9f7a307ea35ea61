"""haproxy in front of several gateways and web processes, which it tells by PROXY headers who their clients
are."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stack import Stack, answers, wait_until

HAPROXY = shutil.which("haproxy") or next(iter(map(str, Path("/usr/sbin").glob("haproxy"))), None)
SOURCE = "127.0.0.77"  # its own address, of NETWORKS; clients come from others
NETWORKS = "127.0.0.64/26"

CONFIG = """
global
    maxconn 5000

defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    option redispatch 1
    retries 3
    default-server check inter 500ms fall 1 rise 1 send-proxy-v2 source {source}
"""
LISTEN = """
listen {name}
    bind 127.0.0.1:{port}
    balance random(1)
{servers}
"""


@contextmanager
def haproxy(front: Stack, gateways: Sequence[Stack], webs: Sequence[Stack]) -> Iterator[None]:
    """At the ports of `front`, of which nothing else is started."""
    assert HAPROXY
    sections = [CONFIG.format(source=SOURCE)]
    for name, port, behind in (
        ("mqtt", front.mqtt, [each.mqtt for each in gateways]),
        ("http", front.http, [each.http for each in webs]),
    ):
        servers = "\n".join(f"    server {name}-{at} 127.0.0.1:{at}" for at in behind)
        sections.append(LISTEN.format(name=name, port=port, servers=servers))
    with tempfile.TemporaryDirectory(prefix="thingscale-haproxy-") as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text("".join(sections))
        with (front.logs / "haproxy.log").open("ab") as log:
            process = subprocess.Popen([HAPROXY, "-db", "-f", config], stdout=log, stderr=log)
        try:
            wait_until(lambda: answers(front.mqtt) or process.poll() is not None, 10, "haproxy to listen")
            assert process.poll() is None, front.log("haproxy")
            yield
        finally:
            process.kill()
            process.wait()
