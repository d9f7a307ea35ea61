"""The metrics page of the ingest process, while it works and while its database is away."""

from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from documents import quoted, table
from mqtt_clients import Device
from prometheus_client.parser import text_string_to_metric_families
from stack import Stack, answers, free_port, wait_until
from support import Account

from ingest.connectors.http_asgi import HttpConnector
from ingest.metrics_server import MetricsServer
from ingest.service import Ingest
from thingscale.version import VERSION


@pytest.fixture
def watched(transactional_db: None) -> Iterator[tuple[Stack, int]]:
    port = free_port()
    stack = Stack(THINGSCALE_METRICS_PORT=str(port))
    stack.ensure("ingest")
    wait_until(lambda: answers(port), what="the page of metrics, which opens after the port for devices")
    yield stack, port
    stack.stop()


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def figures(port: int) -> dict[str, float]:
    """By name, with the values of its labels behind it."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    return {
        ":".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_messages_are_counted_by_what_became_of_them(watched: tuple[Stack, int], account: Account) -> None:
    stack, port = watched
    account.device("d1")
    with Device(stack, account) as device:
        for payload in (b"1", b"2", b"3", b"{no json"):
            device.publish("json/d1", payload, qos=1)
        wait_until(lambda: figures(port)["thingscale_batch_messages_total"] == 4, what="the store's report")
        found = figures(port)
    assert found["thingscale_messages_total:stored"] == 3
    assert found["thingscale_messages_total:rejected"] == 1
    assert found["thingscale_reasons_total:BAD_JSON_FORMAT"] == 1
    assert found["thingscale_acknowledgement_seconds_count:mqtt"] == 4
    assert 0 < found["thingscale_acknowledgement_seconds_sum:mqtt"] < 60
    assert found["thingscale_acknowledgement_seconds_bucket:60.0:mqtt"] == 4
    assert found["thingscale_batch_size_sum"] == 4
    assert found["thingscale_batch_commit_seconds_count"] == found["thingscale_batch_size_count"]
    assert found["thingscale_connections"] == 1
    assert found["thingscale_queue_messages"] == 0
    assert found["process_resident_memory_bytes"] > 2**20


def test_docs_have_all_metrics_of_a_gateway(watched: tuple[Stack, int]) -> None:
    """And those of broker mode; refused connections are shown once there is one."""
    wait_until(lambda: "thingscale_matches_total" in figures(watched[1]), what="the first look at events")
    families = text_string_to_metric_families(get(watched[1], "/metrics")[1])
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in families
        if family.name.startswith("thingscale_") and not family.name.startswith("thingscale_store_process")
    }
    headings = ("Histograms", "Counters", "Gauges", "Events")
    rows = [row[0] for heading in headings for row in table("docs/metrics.md", heading)]
    listed = {name.partition("{")[0] for row in rows for name in quoted(row)}
    of_broker_mode = {"thingscale_unacknowledged", "thingscale_unknown_tokens"}
    assert shown | of_broker_mode | {"thingscale_connections_refused_total"} == listed


def test_the_store_has_figures_of_its_own(watched: tuple[Stack, int]) -> None:
    """It begins as a copy of the gateway, a while after that."""
    found = figures(watched[1])
    assert found["thingscale_store_process_resident_memory_bytes"] > 2**20
    assert found["thingscale_store_process_start_time_seconds"] > found["process_start_time_seconds"]


def test_no_store_where_it_is_no_process() -> None:
    """In broker mode, and in the HTTP connector."""
    body = MetricsServer(0, Ingest()).answer("/metrics")[2].decode()
    assert "\nprocess_resident_memory_bytes " in body
    assert "store_process" not in body


def test_the_web_process_says_what_waits_there() -> None:
    body = HttpConnector()._metrics_server.answer("/metrics")[2].decode()
    assert "\nthingscale_queue_messages 0.0\n" in body
    assert "\nthingscale_queue_bytes 0.0\n" in body


def test_what_http_answers_is_timed_as_well(transactional_db: None, account: Account) -> None:
    """Stored, held and rejected, on the direct way and on the one of a token that is not known yet."""
    port = free_port()
    stack = Stack(THINGSCALE_WEB_METRICS_PORT=str(port))
    stack.ensure("web")
    try:
        account.device("d1")
        for device, body, status in (("d1", b"1", 200), ("d2", b"2", 201), ("d3", b"{no json", 400)):
            connection = HTTPConnection("127.0.0.1", stack.http, timeout=60)
            headers = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": device}
            connection.request("POST", "/post_v2/", body, headers)
            assert connection.getresponse().status == status
            connection.close()
        name = "thingscale_acknowledgement_seconds"
        wait_until(lambda: figures(port)[f"{name}_count:http"] == 3, what="what comes behind the last answer")
        assert 0 < figures(port)[f"{name}_sum:http"] < 60
    finally:
        stack.stop()


def test_alive_ready_and_nothing_else(watched: tuple[Stack, int]) -> None:
    port = watched[1]
    wait_until(lambda: get(port, "/readyz") == (200, "OK"))
    assert get(port, "/healthz") == (200, f"OK {VERSION}")
    assert get(port, "/else")[0] == 404
