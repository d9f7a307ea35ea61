"""How long a webhook takes: from the PUBACK of the datapoint that matches until its receiver has it.

    make bench                                        (or, shorter:)
    python manage.py with_servers --only postgres,valkey -- python benchmarks/notify_latency.py --runs 1

A gateway and a Celery worker, an event that each datapoint matches, and a web server that answers at once.
Messages are sent at a fixed rate; with several receivers, each has an event and a channel of its own.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from common import at_most, record
from database import empty, prepare, target
from django.conf import settings
from load import Target
from paho.mqtt.enums import CallbackAPIVersion
from processes import Used, children, gateway, running, wait_until

from thingscale.accounts.models import User
from thingscale.events.actions import create_event
from thingscale.events.models import Delivery, Event, Incident
from thingscale.local.app_processes import celery_command
from thingscale.streams.models import Channel

RATE = 100  # matches a second
RECEIVERS = (1, 20)
WAIT_SECONDS = 120
HERE = "127.0.0.0/8"


class Hooks:
    """A web server that notes when it got which number."""

    def __init__(self) -> None:
        self.received: dict[int, float] = {}
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hooks.received.setdefault(body["current"], time.monotonic())
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 200
            daemon_threads = True

        self._server = Server(("", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def worker() -> Iterator[int]:
    """Its process id."""
    with running(celery_command(), THINGSCALE_NOTIFY_NETWORKS=HERE) as process:
        yield process.pid


def send(to: Target, first: int, count: int, devices: int) -> dict[int, float]:
    """When each number was acknowledged."""
    mids: dict[int, int] = {}
    acknowledged: dict[int, float] = {}
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "notify-latency")
    client.username_pw_set(to.user_id, to.token)

    def on_publish(_client: Any, _data: Any, mid: int, _code: Any, _properties: Any) -> None:
        acknowledged[mid] = time.monotonic()

    client.on_publish = on_publish
    client.connect(to.host, to.port)
    client.loop_start()
    began = time.monotonic()
    for place in range(count):
        time.sleep(max(0.0, began + place / RATE - time.monotonic()))
        number = first + place
        topic = f"{to.token}/json/bench-{place % devices}"
        mids[client.publish(topic, str(number), qos=1).mid] = number
    wait_until(lambda: len(acknowledged) == count, WAIT_SECONDS)
    client.disconnect()
    client.loop_stop()
    return {mids[mid]: moment for mid, moment in acknowledged.items()}


def watch(user: User, hooks: Hooks, receivers: int) -> None:
    """An event a channel; a receiver is a host and port, so each event has a name of this host of its own."""
    Event.objects.filter(user=user).delete()
    for channel in Channel.objects.filter(user=user, number__lt=receivers):
        fields = {"mapped_channel": channel, "source": "value", "operator": ">", "threshold": "0"}
        url = f"http://127.0.0.{channel.number + 1}:{hooks.port}/"
        create_event(user, {**fields, "notify_type": "http", "post_url": url})


class Measured(NamedTuple):
    milliseconds: list[float]  # of each message, in order
    cpu_us: dict[str, float]  # a message, by process


def measure(user: User, to: Target, pids: dict[str, list[int]], receivers: int, count: int) -> Measured:
    hooks = Hooks()
    try:
        watch(user, hooks, receivers)
        empty()
        send(to, 1, receivers, receivers)  # the warm-up
        wait_until(lambda: len(hooks.received) == receivers, WAIT_SECONDS)
        used = Used(**pids)
        acknowledged = send(to, receivers + 1, count, receivers)
        wait_until(lambda: len(hooks.received) == receivers + count, WAIT_SECONDS)
        took = sorted((hooks.received[number] - moment) * 1000 for number, moment in acknowledged.items())
        return Measured(took, used.us(count))
    finally:
        hooks.close()
        Delivery.objects.filter(user=user).delete()
        Incident.objects.filter(user=user).delete()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--messages", type=int, default=3000)
    options = parser.parse_args()
    settings.NOTIFY_NETWORKS = (ip_network(HERE),)
    user = prepare()
    with gateway() as (port, gateway_pid), worker() as worker_pid:
        to = target(user, port)
        pids = {"worker": [worker_pid], "gateway": [gateway_pid, *children(gateway_pid)]}
        for receivers in RECEIVERS:
            runs = [measure(user, to, pids, receivers, options.messages) for _ in range(options.runs)]
            medians = [statistics.median(run.milliseconds) for run in runs]
            late = [run.milliseconds[int(options.messages * 0.99)] for run in runs]
            what = f"{RATE} matches/s, {receivers} receiver{'s' if receivers > 1 else ''}"
            record(
                f"{what}, half are there within",
                medians,
                "ms",
                at_most(300),
                cpu_us=[run.cpu_us for run in runs],
            )
            record(f"{what}, 99 of 100", late, "ms", at_most(2000))


if __name__ == "__main__":
    main()
