"""Tests that are known to fail, for each broker: by name, or by name and parameters; and why.

A test that is listed and passes fails, so nothing stays here that is mended. Those of the platform are not
even run: some of them take the broker behind the gateway down, for all tests that come later. `--runxfail`
runs all, as if there were no such list.
"""

from typing import Final

SLOW_KEEP_ALIVE: Final = "It looks for silent clients every five seconds."
EXPIRY_OF_BEGUN: Final = "It applies expiry to deliveries that have begun."
NOT_RUN: Final = frozenset({SLOW_KEEP_ALIVE, EXPIRY_OF_BEGUN})  # since sometimes they pass

_BODY: Final = "It takes a PINGREQ with a body."
_FIRST_QOS: Final = "One delivery, at the QoS of the first subscription that it finds."
_FLAGS: Final = "It does not look at the flags of the first byte of this packet."
_FROM_SERVER: Final = "It takes packets that only a server may send, and does nothing."
_OWN_WILL: Final = "The will of a connection that is taken over does not reach the session that goes on."
_QUOTA: Final = "Its count of open deliveries is wrong after this."
_PROPERTY: Final = "It does not look at this property."
_SHARED: Final = "It does not look at this in shared subscriptions."

MOSQUITTO: Final[dict[str, str]] = {
    "test_a_connect_with_a_wrong_property_is_refused[5-authentication_data_alone]": _PROPERTY,
    "test_a_delayed_will_is_sent_when_its_session_ends": "A clean start drops the will that is due with it.",
    "test_a_delivery_that_has_begun_does_not_expire": EXPIRY_OF_BEGUN,
    "test_a_delivery_that_is_refused_is_done[5-pubrec]": _QUOTA,
    "test_a_message_above_the_maximum_packet_size_is_left_out[5-live-1]": _QUOTA,
    "test_a_message_above_the_maximum_packet_size_is_left_out[5-queued-1]": _QUOTA,
    "test_a_message_above_the_maximum_packet_size_is_left_out[5-retained-1]": _QUOTA,
    "test_a_packet_that_is_too_short_or_too_long_ends_the_connection[3.1.1-pingreq]": _BODY,
    "test_a_packet_that_is_too_short_or_too_long_ends_the_connection[5-pingreq]": _BODY,
    "test_a_publish_with_a_wrong_property_ends_the_connection[5-out_of_range]": _PROPERTY,
    "test_a_publish_with_a_wrong_property_ends_the_connection[5-response_topic_with_wildcard]": _PROPERTY,
    "test_a_publish_with_a_wrong_property_ends_the_connection[5-subscription_identifier]": _PROPERTY,
    "test_a_qos_2_publish_sent_again_is_delivered_once": "The third time is a protocol error to it.",
    "test_a_second_connection_takes_the_session_over[5]": "It closes the first one without DISCONNECT.",
    "test_a_shared_subscription_gets_no_retained_messages": _SHARED,
    "test_a_silent_client_is_disconnected_after_its_keep_alive": SLOW_KEEP_ALIVE,
    "test_a_subscription_without_no_local_replaces_one_with_it": "It keeps the first No Local of a filter.",
    "test_a_text_frame_ends_the_connection": "It takes text frames.",
    "test_a_topic_alias_above_the_maximum_ends_the_connection": "The reason is 0x81 instead of 0x94.",
    "test_an_invalid_share_is_refused[5-s0]": _SHARED,
    "test_an_invalid_share_is_refused[5-s1]": _SHARED,
    "test_an_invalid_share_is_refused[5-s4]": _SHARED,
    "test_no_local_on_a_shared_subscription_ends_the_connection": _SHARED,
    "test_no_more_open_deliveries_than_the_receive_maximum": _QUOTA,
    "test_overlapping_subscriptions[3.1.1]": _FIRST_QOS,
    "test_overlapping_subscriptions[3.1]": _FIRST_QOS,
    "test_overlapping_subscriptions_are_one_delivery": "It delivers once for each, which it may.",
    "test_packets_that_only_a_server_sends_end_the_connection[3.1.1-pingresp]": _FROM_SERVER,
    "test_packets_that_only_a_server_sends_end_the_connection[3.1.1-suback]": _FROM_SERVER,
    "test_packets_that_only_a_server_sends_end_the_connection[3.1.1-unsuback]": _FROM_SERVER,
    "test_packets_that_only_a_server_sends_end_the_connection[5-pingresp]": _FROM_SERVER,
    "test_packets_that_only_a_server_sends_end_the_connection[5-unsuback]": _FROM_SERVER,
    "test_the_subprotocol_is_mqtt[last]": "It chooses mqttv3.1 if that is offered first.",
    "test_the_will_of_a_session_taken_over_reaches_the_session_itself": _OWN_WILL,
    **{
        f"test_wrong_flags_in_the_first_byte_end_the_connection[{version}-{packet}]": _FLAGS
        for version in ("3.1.1", "5")
        for packet in ("pingreq", "puback", "pubcomp", "pubrec")
    },
    "test_wrong_flags_of_a_disconnect_are_called_malformed": "It says no reason.",
}

THINGSCALE: Final[dict[str, str]] = {}

KNOWN_FAILURES: Final = {"mosquitto": MOSQUITTO, "thingscale": THINGSCALE}
