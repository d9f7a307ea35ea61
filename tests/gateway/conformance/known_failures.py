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

# Until the gateway is the broker itself.
_QOS: Final = "The broker behind the gateway delivers at the QoS of the subscription."
_FLOWS: Final = "Neither it nor the gateway keeps an interrupted QoS 2 flow, or sends again with DUP."
_OPTIONS: Final = "It knows no subscription options or identifiers, and no filter that is not there."
_PROPERTIES: Final = "Properties of stored messages and of wills get lost."
_ORDER: Final = "What is stored and what is only passed on are acknowledged and delivered in two orders."
_RETAINED: Final = "It clears, forgets or hands out retained messages by rules of its own."
_UPSTREAM: Final = "It stops delivering."
_PANIC: Final = "It fails for good when properties meet a subscriber of MQTT 3.1.1."
_BRIDGE: Final = "The levels of bridges are refused."
THINGSCALE: Final[dict[str, str]] = {
    "test_a_bridge_may_connect": _BRIDGE,
    "test_a_clear_never_overtakes_its_set[3.1.1-data]": _ORDER,
    "test_a_clear_never_overtakes_its_set[5-data]": _ORDER,
    "test_a_delivery_has_the_lower_qos_of_both[3.1-sub1-0]": _QOS,
    "test_a_delivery_has_the_lower_qos_of_both[3.1-sub2-0]": _QOS,
    "test_a_delivery_has_the_lower_qos_of_both[3.1-sub2-1]": _QOS,
    "test_a_delivery_has_the_lower_qos_of_both[3.1.1-sub1-0]": _QOS,
    "test_a_delivery_has_the_lower_qos_of_both[3.1.1-sub2-0]": _QOS,
    "test_a_delivery_has_the_lower_qos_of_both[3.1.1-sub2-1]": _QOS,
    "test_a_delivery_has_the_lower_qos_of_both[5-sub1-0]": _QOS,
    "test_a_delivery_has_the_lower_qos_of_both[5-sub2-0]": _QOS,
    "test_a_delivery_has_the_lower_qos_of_both[5-sub2-1]": _QOS,
    "test_a_delivery_never_has_the_dup_of_its_publish": _FLOWS,
    "test_a_delivery_that_has_begun_does_not_expire": _FLOWS,
    "test_a_message_above_the_maximum_packet_size_is_left_out[5-live-10]": _UPSTREAM,
    "test_a_message_above_the_maximum_packet_size_is_left_out[5-queued-10]": _UPSTREAM,
    "test_a_message_above_the_maximum_packet_size_is_left_out[5-retained-10]": _UPSTREAM,
    "test_a_message_without_retain_leaves_the_retained_one": _RETAINED,
    "test_a_packet_id_may_be_used_again_after_its_flow[3.1-1]": _QOS,
    "test_a_packet_id_may_be_used_again_after_its_flow[3.1.1-1]": _QOS,
    "test_a_packet_id_may_be_used_again_after_its_flow[5-1]": _QOS,
    "test_a_publish_with_a_wrong_property_ends_the_connection[5-subscription_identifier]": _PROPERTIES,
    "test_a_pubrel_sent_again_is_answered_again": _QOS,
    "test_a_qos_2_publish_is_not_lost_after_pubrec": _FLOWS,
    "test_a_qos_2_publish_sent_again_after_a_reconnect_is_delivered_once": _FLOWS,
    "test_a_qos_2_publish_sent_again_is_delivered_once": _FLOWS,
    "test_a_retained_message_is_sent_to_new_subscriptions[3.1-0]": _QOS,
    "test_a_retained_message_is_sent_to_new_subscriptions[3.1-1]": _QOS,
    "test_a_retained_message_is_sent_to_new_subscriptions[3.1.1-0]": _QOS,
    "test_a_retained_message_is_sent_to_new_subscriptions[3.1.1-1]": _QOS,
    "test_a_retained_message_is_sent_to_new_subscriptions[5-0]": _QOS,
    "test_a_retained_message_is_sent_to_new_subscriptions[5-1]": _QOS,
    "test_a_retained_message_of_qos_0_replaces_the_former": _QOS,
    "test_a_session_may_go_on_in_another_version": _PANIC,
    "test_a_shared_delivery_at_qos_2_goes_to_nobody_else_when_its_session_ends": _UPSTREAM,
    "test_a_shared_delivery_at_qos_2_stays_with_its_client": _FLOWS,
    "test_a_shared_message_goes_to_the_next_while_one_is_away": _UPSTREAM,
    "test_a_shared_subscription_is_ended_by_its_whole_filter": _OPTIONS,
    "test_a_subscription_identifier_goes_with_its_subscription": _OPTIONS,
    "test_a_subscription_to_the_same_filter_replaces_the_former": _RETAINED,
    "test_a_subscription_without_no_local_replaces_one_with_it": _OPTIONS,
    "test_a_will_is_published_after_a_protocol_error": _QOS,
    "test_a_will_is_published_when_the_wire_breaks[3.1-0]": _QOS,
    "test_a_will_is_published_when_the_wire_breaks[3.1-1]": _QOS,
    "test_a_will_is_published_when_the_wire_breaks[3.1.1-0]": _QOS,
    "test_a_will_is_published_when_the_wire_breaks[3.1.1-1]": _QOS,
    "test_a_will_is_published_when_the_wire_breaks[5-0]": _QOS,
    "test_a_will_is_published_when_the_wire_breaks[5-1]": _QOS,
    "test_a_will_is_retained_only_if_it_says_so": _OPTIONS,
    "test_a_will_waits_for_its_delay": _PROPERTIES,
    "test_acknowledgements_come_in_the_order_of_the_publishes": _ORDER,
    "test_an_unsuback_has_a_code_for_each_filter_in_order": _OPTIONS,
    "test_deliveries_keep_the_order_of_the_publishes": _UPSTREAM,
    "test_many_filters_are_as_many_subscribes": _QOS,
    "test_many_retained_messages_come_all_and_within_the_window": _RETAINED,
    "test_messages_wait_for_a_durable_session[3.1-1]": _QOS,
    "test_messages_wait_for_a_durable_session[3.1.1-1]": _QOS,
    "test_messages_wait_for_a_durable_session[5-1]": _QOS,
    "test_no_local": _OPTIONS,
    "test_no_local_keeps_what_was_published_in_an_earlier_connection": _OPTIONS,
    "test_overlapping_subscriptions_are_one_delivery": _OPTIONS,
    "test_properties_are_nothing_to_a_subscriber_of_mqtt_3": _PANIC,
    "test_properties_reach_subscribers_unaltered[5-data]": _PROPERTIES,
    "test_pubrel_follows_after_a_reconnect_though_pubrec_was_the_last_word": _FLOWS,
    "test_pubrel_is_sent_again_after_a_reconnect": _FLOWS,
    "test_qos_0_messages_need_not_wait": _QOS,
    "test_retain_as_published": _OPTIONS,
    "test_retain_handling": _OPTIONS,
    "test_subscriptions_of_a_durable_session_go_on": _QOS,
    "test_the_properties_of_a_will_reach_subscribers_unaltered": _PROPERTIES,
    "test_topic_aliases_from_the_client": _QOS,
    "test_unsubscribe_ends_a_subscription_of_exactly_that_filter": _OPTIONS,
    "test_what_is_not_acknowledged_is_sent_again_after_a_reconnect": _FLOWS,
    "test_what_was_acknowledged_outlives_a_restart": _FLOWS,
}
KNOWN_FAILURES: Final = {"mosquitto": MOSQUITTO, "thingscale": THINGSCALE}
