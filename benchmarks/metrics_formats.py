"""What a sample of Prometheus or OpenTelemetry takes to be read, in one process.

    make bench                                        (or, shorter:)
    python benchmarks/metrics_formats.py --runs 1

Requests as a server with 16 cores sends them: 2,000 samples of some hundred metrics, each with seven labels,
OTLP with three attributes. "Seen before" are series that were read lately, as all but the first request of
a sender are.
"""

import argparse
import struct
import time
from collections.abc import Callable

import cramjam
import orjson
from common import at_most, record

from thingscale.intakes.formats import otlp, prometheus
from thingscale.intakes.formats.labelled import MAX_REMEMBERED
from thingscale.intakes.formats.prometheus import Message
from thingscale.intakes.formats.protobuf import written

SAMPLES, CORES = 2000, 16
REPEATS = 20
NOW = time.time_ns() // 1000


def labels(place: int, request: int) -> dict[str, str]:
    return {
        "__name__": f"node_cpu_seconds_total{place // CORES}",
        "cpu": str(place % CORES),
        "env": "production",
        "instance": f"10.0.0.{request}:9100",
        "job": "node",
        "mode": "idle",
        "region": "eu-1",
    }


def sample(place: int) -> bytes:
    return b"\x09" + struct.pack("<d", 1 + place * 1.25) + written(2, NOW // 1000)


def remote_write_1(request: int) -> bytes:
    def series(place: int) -> bytes:
        pairs = labels(place, request).items()
        texts = [written(1, written(1, name.encode()) + written(2, value.encode())) for name, value in pairs]
        return written(1, b"".join(texts) + written(2, sample(place)))

    return packed(b"".join(map(series, range(SAMPLES))))


def remote_write_2(request: int) -> bytes:
    symbols = {"": 0}

    def series(place: int) -> bytes:
        pairs = labels(place, request).items()
        refs = [symbols.setdefault(text, len(symbols)) for pair in pairs for text in pair]
        varints = b"".join(written(1, ref)[1:] for ref in refs)
        return written(5, written(1, varints) + written(2, sample(place)) + written(5, written(1, 1)))

    body = b"".join(map(series, range(SAMPLES)))
    return packed(b"".join(written(4, symbol.encode()) for symbol in symbols) + body)


def packed(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def otlp_protobuf(request: int) -> bytes:
    def attribute(name: str, value: str) -> bytes:
        return written(1, name.encode()) + written(2, written(1, value.encode()))

    def point(core: int) -> bytes:
        named = (("cpu", f"cpu{core}"), ("state", "idle"), ("direction", "read"))
        times = b"\x11" + struct.pack("<Q", (NOW - 10**9) * 1000) + b"\x19" + struct.pack("<Q", NOW * 1000)
        number = b"\x21" + struct.pack("<d", 1 + core * 1.25)
        return times + number + b"".join(written(7, attribute(*pair)) for pair in named)

    data = b"".join(written(1, point(core)) for core in range(CORES)) + written(2, 2)
    metrics = [
        written(2, written(1, b"system.metric.%d" % n) + written(3, b"s") + written(7, data))
        for n in range(SAMPLES // CORES)
    ]
    resource = written(1, written(1, attribute("host.name", f"server-{request}")))
    return written(1, resource + written(2, b"".join(metrics)))


def otlp_json(request: int) -> bytes:
    def attribute(name: str, value: str) -> dict[str, object]:
        return {"key": name, "value": {"stringValue": value}}

    def point(core: int) -> dict[str, object]:
        named = (("cpu", f"cpu{core}"), ("state", "idle"), ("direction", "read"))
        return {
            "attributes": [attribute(*pair) for pair in named],
            "startTimeUnixNano": str((NOW - 10**9) * 1000),
            "timeUnixNano": str(NOW * 1000),
            "asDouble": 1 + core * 1.25,
        }

    points = {"dataPoints": list(map(point, range(CORES))), "aggregationTemporality": 2}
    metrics = [{"name": f"system.metric.{n}", "unit": "s", "sum": points} for n in range(SAMPLES // CORES)]
    resource = {"attributes": [attribute("host.name", f"server-{request}")]}
    return orjson.dumps({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]})


def microseconds(decode: Callable[[bytes], object], bodies: list[bytes]) -> float:
    """A sample."""
    started = time.process_time()
    for body in bodies:
        decode(body)
    return (time.process_time() - started) / len(bodies) / SAMPLES * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    runs = range(parser.parse_args().runs)
    for what, make, decode, most in (
        ("remote write 1.0", remote_write_1, lambda body: prometheus.decode(body, NOW, Message.V1), 4.0),
        ("remote write 2.0", remote_write_2, lambda body: prometheus.decode(body, NOW, Message.V2), 7.0),
        ("OTLP, protobuf", otlp_protobuf, lambda body: otlp.decode(body, NOW, as_json=False), 7.0),
        ("OTLP, JSON", otlp_json, lambda body: otlp.decode(body, NOW, as_json=True), 20.0),
    ):
        body = make(0)
        decode(body)
        record(
            f"{what}, seen before",
            [microseconds(decode, [body] * REPEATS) for _ in runs],
            "us",
            at_most(most),
        )
        if make in (remote_write_1, remote_write_2):
            hosts = [make(host) for host in range(2 * MAX_REMEMBERED // SAMPLES)]  # more than are remembered
            record(f"{what}, new series", [microseconds(decode, hosts) for _ in runs], "us")


if __name__ == "__main__":
    main()
