"""One table of kinds (thingscale/lib/kinds.py), which every door follows (I8)."""

import re
from pathlib import Path

import pytest
from django.urls import resolve

from api.v2 import connector as described
from ingest.connectors import http
from ingest.connectors.http_view import connector
from ingest.decode import decode
from ingest.message import Kind
from ingest.mqtt.codec import topic_matches
from ingest.simulate.http import PATHS
from ingest.topics import BROKER_FILTERS, Target, target
from thingscale.lib.kinds import ENDPOINTS
from thingscale.lib.reasons import ANSWERS, Reason

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("templates/**/*.html"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
each_kind = pytest.mark.parametrize("kind", ENDPOINTS)


def test_i8_every_kind_that_devices_send_has_its_endpoint() -> None:
    assert ENDPOINTS.keys() == set(Kind) - {Kind.INTAKE, Kind.MESSAGE}


@each_kind
def test_i8_every_kind_can_be_read(kind: Kind) -> None:
    assert decode(kind, b"v=1")


@each_kind
@pytest.mark.parametrize("tag", [None, "t", "sensor/temp/state"])
def test_i8_what_is_parsed_is_subscribed_to_by_broker_mode_once(kind: Kind, tag: str | None) -> None:
    endpoint = ENDPOINTS[kind]
    if tag and not endpoint.tagged:
        return
    topic = endpoint.topic("d1", tag)
    assert target(topic) == Target(kind, "d1", tag)
    matching = [name for name, filter_ in BROKER_FILTERS.items() if topic_matches(filter_, f"TOKEN/{topic}")]
    assert matching == [kind.value]


@each_kind
def test_i8_each_path_is_routed_described_and_used_by_the_simulator(kind: Kind) -> None:
    paths = ENDPOINTS[kind].http_paths
    for path in paths:
        assert http.kind_of(path) is http.kind_of(f"{path}/") is kind
        assert resolve(path).func is resolve(f"{path}/").func is connector
        assert f"{path}/" in described.PATHS
    assert PATHS.get(kind, "").rstrip("/") == "".join(paths[:1])


def test_i8_every_topic_that_people_are_shown_is_one() -> None:
    """In pages, docs and the sentences of reasons."""
    texts = [path.read_text() for path in PAGES] + [answer.sentence for answer in ANSWERS.values()]
    shown = set()
    for text in texts:
        plain = re.sub(r"{{.*?}}", "d1", text).replace("[/TAG]", "/TAG")
        shown |= set(re.findall(r"TOKEN/([A-Za-z0-9_/-]*[A-Za-z0-9_])", plain))
    assert {target(topic).kind for topic in shown} >= {Kind.JSON, Kind.STATE, None}
    unknown = {topic for topic in shown if target(topic).refused is Reason.UNKNOWN_TOPIC}
    assert unknown == {"a/b"}  # decision 6's, of a bad one
