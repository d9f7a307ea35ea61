"""The conformance table is complete, and what it names is there."""

import ast
import functools
from collections import Counter
from pathlib import Path

import pytest
import table_3_1_1
import table_5
from numbers_of_statements import MQTT_3_1_1, MQTT_5
from statements import Row

TABLES = pytest.mark.parametrize(
    ("rows", "numbers"),
    [(table_3_1_1.ROWS, MQTT_3_1_1), (table_5.ROWS, MQTT_5)],
    ids=["3.1.1", "5"],
)
# What no number asks for: MQTT 3.1, other sections of the standards, and what a broker is expected to do.
BEYOND = {
    "test_a_bridge_may_connect",
    "test_a_client_need_not_wait_for_connack",
    "test_a_publish_that_is_too_large_ends_the_connection_or_is_taken",
    "test_a_session_expiry_that_the_server_shortens_is_told",
    "test_a_session_may_go_on_in_another_version",
    "test_a_shared_message_goes_to_the_next_while_one_is_away",
    "test_a_shared_subscription_gets_no_retained_messages",
    "test_acknowledgements_of_unknown_packet_ids_do_no_harm",
    "test_as_many_open_publishes_as_the_server_allows",
    "test_overlapping_subscriptions_are_one_delivery",
    "test_properties_are_nothing_to_a_subscriber_of_mqtt_3",
    "test_qos_0_messages_need_not_wait",
}


@functools.cache
def names_of_tests() -> frozenset[str]:
    names: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        if path != Path(__file__):
            functions = [
                node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
            ]
            names |= {function.name for function in functions if function.name.startswith("test_")}
    return frozenset(name for name in names if name.startswith("test_"))


@TABLES
def test_every_number_has_one_row(rows: tuple[Row, ...], numbers: tuple[str, ...]) -> None:
    assert [number for number, count in Counter(row.number for row in rows).items() if count > 1] == []
    assert {row.number for row in rows} == set(numbers)


@TABLES
def test_every_row_has_tests_that_exist_or_a_reason(rows: tuple[Row, ...], numbers: tuple[str, ...]) -> None:
    there = names_of_tests()
    for row in rows:
        assert bool(row.tests) != bool(row.reason), row
        assert set(row.tests) <= there, row
        assert row.says, row


def test_every_test_is_named_in_a_row_or_goes_beyond() -> None:
    named = {name for rows in (table_3_1_1.ROWS, table_5.ROWS) for row in rows for name in row.tests}
    assert names_of_tests() - named == BEYOND
