"""Every normative statement of MQTT 3.1.1, in our words, with its tests or the reason why there is none."""

from typing import Final

from statements import Row, client, tested, untested

ROWS: Final[tuple[Row, ...]] = (
    # 1.5 Data representations
    tested(
        "1.5.3-1",
        "A string that is not well-formed UTF-8 ends the connection.",
        "test_a_topic_that_is_not_utf_8_ends_the_connection",
        "test_a_connect_with_a_string_that_is_not_utf_8_is_refused",
    ),
    tested(
        "1.5.3-2",
        "So does a string with the null character.",
        "test_a_null_character_in_a_string_ends_the_connection",
    ),
    tested(
        "1.5.3-3",
        "The byte order mark is a character like others, wherever it stands.",
        "test_a_byte_order_mark_is_a_character_like_others",
    ),
    # 2 Packet format
    tested(
        "2.2.2-1",
        "Reserved flags have the value that the table gives them.",
        "test_wrong_flags_in_the_first_byte_end_the_connection",
    ),
    tested(
        "2.2.2-2", "Other flags end the connection.", "test_wrong_flags_in_the_first_byte_end_the_connection"
    ),
    tested(
        "2.3.1-1",
        "SUBSCRIBE, UNSUBSCRIBE and PUBLISH above QoS 0 have a packet identifier other than 0.",
        "test_a_packet_id_of_0_ends_the_connection",
    ),
    client("2.3.1-2", "A client takes an identifier that is not in use for each new packet."),
    client("2.3.1-3", "A client sends a packet again with its first identifier, free after the answer."),
    tested(
        "2.3.1-4",
        "The same holds for what a server publishes above QoS 0.",
        "test_open_deliveries_have_packet_ids_of_their_own",
        "test_what_is_not_acknowledged_is_sent_again_after_a_reconnect",
    ),
    tested(
        "2.3.1-5",
        "A PUBLISH at QoS 0 has no packet identifier.",
        "test_a_delivery_at_qos_0_is_no_more_than_topic_and_payload",
    ),
    tested(
        "2.3.1-6",
        "Acknowledgements of a PUBLISH carry its identifier.",
        "test_answers_carry_the_packet_id_of_what_they_answer",
    ),
    tested(
        "2.3.1-7",
        "SUBACK and UNSUBACK carry that of their request.",
        "test_answers_carry_the_packet_id_of_what_they_answer",
    ),
    # 3.1 CONNECT
    tested(
        "3.1.0-1",
        "A connection begins with CONNECT.",
        "test_a_first_packet_that_is_no_connect_ends_the_connection",
    ),
    tested(
        "3.1.0-2",
        "A second CONNECT is a violation that ends the connection.",
        "test_a_second_connect_ends_the_connection",
    ),
    tested(
        "3.1.2-1",
        "A CONNECT with another protocol name is not handled as one of MQTT.",
        "test_another_protocol_name_is_refused",
    ),
    tested(
        "3.1.2-2",
        "A level that is not supported is refused with return code 1.",
        "test_another_protocol_level_is_refused_with_its_code",
    ),
    tested(
        "3.1.2-3", "The reserved connect flag is checked to be 0.", "test_the_reserved_flag_of_a_connect_is_0"
    ),
    tested(
        "3.1.2-4",
        "Without Clean Session the session is resumed or begun, and outlives the connection.",
        "test_a_new_durable_session_is_not_present_and_then_it_is",
        "test_subscriptions_of_a_durable_session_go_on",
    ),
    tested(
        "3.1.2-5",
        "While such a session is away, messages at QoS 1 and 2 are kept for it.",
        "test_messages_wait_for_a_durable_session",
        "test_what_was_acknowledged_outlives_a_restart",
    ),
    tested(
        "3.1.2-6",
        "Clean Session discards an earlier session, and ends with its connection.",
        "test_a_clean_start_discards_the_session",
        "test_a_clean_session_leaves_nothing",
    ),
    tested(
        "3.1.2-7",
        "Retained messages belong to no session and stay when one ends.",
        "test_a_retained_message_outlives_the_session_of_its_publisher",
    ),
    tested(
        "3.1.2-8",
        "A will is kept with its connection, and published when that ends without DISCONNECT.",
        "test_a_will_is_published_when_the_wire_breaks",
        "test_a_will_is_published_after_a_protocol_error",
        "test_a_silent_client_is_disconnected_after_its_keep_alive",
        "test_a_will_is_published_when_its_session_is_taken_over",
        "test_the_will_of_a_session_taken_over_reaches_the_session_itself",
        "test_a_will_waits_for_a_durable_session",
    ),
    tested(
        "3.1.2-9",
        "A will that the flags announce has its topic and message in the payload.",
        "test_a_will_that_is_announced_and_missing_is_refused",
    ),
    tested(
        "3.1.2-10",
        "A will is gone once it is published, or a DISCONNECT has come.",
        "test_a_will_is_published_once",
        "test_a_will_is_discarded_by_disconnect",
    ),
    tested(
        "3.1.2-11",
        "Without a will its flags are 0 and its fields missing.",
        "test_will_flags_without_a_will_are_refused",
        "test_the_payload_of_a_connect_is_what_its_flags_say",
    ),
    tested(
        "3.1.2-12", "Without a will none is published.", "test_a_connection_without_a_will_publishes_none"
    ),
    tested("3.1.2-13", "Without a will its QoS is 0.", "test_will_flags_without_a_will_are_refused"),
    tested(
        "3.1.2-14",
        "The QoS of a will is not 3.",
        "test_a_will_of_qos_3_is_refused",
        "test_a_will_is_published_when_the_wire_breaks",
    ),
    tested("3.1.2-15", "Without a will its retain flag is 0.", "test_will_flags_without_a_will_are_refused"),
    tested(
        "3.1.2-16",
        "A will without the retain flag is not retained.",
        "test_a_will_is_retained_only_if_it_says_so",
    ),
    tested(
        "3.1.2-17",
        "One with it is.",
        "test_a_will_is_retained_only_if_it_says_so",
        "test_an_empty_retained_will_clears",
    ),
    tested(
        "3.1.2-18",
        "A user name that the flags do not announce is not there.",
        "test_the_payload_of_a_connect_is_what_its_flags_say",
    ),
    tested("3.1.2-19", "One that they announce is.", "test_the_payload_of_a_connect_is_what_its_flags_say"),
    tested(
        "3.1.2-20",
        "A password that the flags do not announce is not there.",
        "test_the_payload_of_a_connect_is_what_its_flags_say",
    ),
    tested("3.1.2-21", "One that they announce is.", "test_the_payload_of_a_connect_is_what_its_flags_say"),
    tested(
        "3.1.2-22",
        "There is no password without a user name.",
        "test_a_password_needs_a_user_name_before_mqtt_5",
    ),
    client("3.1.2-23", "A client that has nothing else to say within its keep alive sends PINGREQ."),
    tested(
        "3.1.2-24",
        "A client silent for one and a half keep alives is disconnected.",
        "test_a_silent_client_is_disconnected_after_its_keep_alive",
    ),
    tested(
        "3.1.3-1",
        "The fields of the payload come in a fixed order.",
        "test_a_connect_with_every_field_is_accepted",
    ),
    tested(
        "3.1.3-2",
        "The state of a session belongs to its client identifier.",
        "test_sessions_belong_to_their_client_ids",
        "test_a_second_connection_takes_the_session_over",
    ),
    tested(
        "3.1.3-3",
        "The client identifier is there, and first.",
        "test_the_payload_of_a_connect_is_what_its_flags_say",
        "test_a_connect_of_wrong_length_is_refused",
    ),
    tested("3.1.3-4", "It is UTF-8.", "test_a_connect_with_a_string_that_is_not_utf_8_is_refused"),
    tested(
        "3.1.3-5", "1 to 23 letters and digits are accepted.", "test_client_ids_of_1_to_23_letters_and_digits"
    ),
    tested(
        "3.1.3-6",
        "A client without an identifier gets one of its own.",
        "test_an_empty_client_id_is_given_one",
    ),
    tested("3.1.3-7", "It has to ask for a clean session.", "test_an_empty_client_id_has_no_durable_session"),
    tested(
        "3.1.3-8",
        "If it does not it is refused with return code 2.",
        "test_an_empty_client_id_has_no_durable_session",
    ),
    tested(
        "3.1.3-9",
        "So is every identifier that the server does not accept; ours accepts all others.",
        "test_an_empty_client_id_has_no_durable_session",
    ),
    tested(
        "3.1.3-10",
        "The topic of a will is UTF-8.",
        "test_a_connect_with_a_string_that_is_not_utf_8_is_refused",
    ),
    tested(
        "3.1.3-11", "The user name is UTF-8.", "test_a_connect_with_a_string_that_is_not_utf_8_is_refused"
    ),
    tested(
        "3.1.4-1",
        "A CONNECT that is not well-formed ends the connection without CONNACK.",
        "test_a_connect_of_wrong_length_is_refused",
        "test_the_payload_of_a_connect_is_what_its_flags_say",
    ),
    tested(
        "3.1.4-2",
        "A client identifier that connects again ends its earlier connection.",
        "test_a_second_connection_takes_the_session_over",
        "test_a_second_connection_with_a_clean_session_takes_over_too",
    ),
    tested(
        "3.1.4-3",
        "Clean Session is handled as 3.1.2.4 says.",
        "test_a_clean_start_discards_the_session",
        "test_a_clean_session_leaves_nothing",
    ),
    tested(
        "3.1.4-4",
        "A CONNECT that is accepted is answered by CONNACK with return code 0.",
        "test_connack_of_a_new_session_is_all_zero",
    ),
    tested(
        "3.1.4-5",
        "What a client sends behind a CONNECT that is refused is not handled.",
        "test_what_follows_a_refused_connect_is_not_done",
    ),
    # 3.2 CONNACK
    tested(
        "3.2.0-1",
        "CONNACK is the first packet from the server.",
        "test_connack_is_the_first_packet_and_the_only_one",
    ),
    tested(
        "3.2.2-1",
        "With Clean Session no session is present.",
        "test_connack_of_a_new_session_is_all_zero",
        "test_a_clean_start_discards_the_session",
    ),
    tested(
        "3.2.2-2",
        "Without, Session Present tells whether one is stored: 1.",
        "test_a_new_durable_session_is_not_present_and_then_it_is",
    ),
    tested("3.2.2-3", "Or 0.", "test_a_new_durable_session_is_not_present_and_then_it_is"),
    tested("3.2.2-4", "A refusal reports no session.", "test_a_refused_connect_reports_no_session"),
    tested("3.2.2-5", "A refusal ends the connection.", "test_a_wrong_password_is_refused"),
    tested(
        "3.2.2-6",
        "Where no return code fits, the connection ends without one.",
        "test_a_connect_of_wrong_length_is_refused",
    ),
    # 3.3 PUBLISH
    tested(
        "3.3.1-1",
        "What is sent again has DUP.",
        "test_what_is_not_acknowledged_is_sent_again_after_a_reconnect",
    ),
    tested("3.3.1-2", "At QoS 0 DUP is 0.", "test_a_delivery_never_has_the_dup_of_its_publish"),
    tested(
        "3.3.1-3",
        "DUP of a delivery is not that of its PUBLISH.",
        "test_a_delivery_never_has_the_dup_of_its_publish",
    ),
    tested("3.3.1-4", "QoS 3 ends the connection.", "test_a_publish_of_qos_3_ends_the_connection"),
    tested(
        "3.3.1-5",
        "A PUBLISH with RETAIN is stored with its QoS for future subscribers.",
        "test_a_retained_message_is_sent_to_new_subscriptions",
        "test_what_was_acknowledged_outlives_a_restart",
    ),
    tested(
        "3.3.1-6",
        "A new subscription gets the last retained message of each topic that it matches.",
        "test_a_retained_message_is_sent_to_new_subscriptions",
        "test_many_retained_messages_come_all_and_within_the_window",
    ),
    tested(
        "3.3.1-7",
        "A retained message at QoS 0 replaces the former one.",
        "test_a_retained_message_of_qos_0_replaces_the_former",
    ),
    tested(
        "3.3.1-8",
        "What a new subscription gets has RETAIN 1.",
        "test_a_retained_message_is_sent_to_new_subscriptions",
    ),
    tested(
        "3.3.1-9",
        "What an established one gets has RETAIN 0.",
        "test_a_retained_message_reaches_established_subscriptions_without_the_flag",
    ),
    tested(
        "3.3.1-10",
        "A retained message without payload is delivered, and clears the topic.",
        "test_an_empty_payload_clears_what_is_retained",
        "test_a_clear_never_overtakes_its_set",
    ),
    tested("3.3.1-11", "It is not stored itself.", "test_an_empty_payload_clears_what_is_retained"),
    tested(
        "3.3.1-12",
        "Without RETAIN nothing is stored, replaced or cleared.",
        "test_a_message_without_retain_leaves_the_retained_one",
    ),
    tested(
        "3.3.2-1",
        "The topic comes first, and is UTF-8.",
        "test_a_topic_that_is_not_utf_8_ends_the_connection",
    ),
    tested("3.3.2-2", "It has no wildcards.", "test_a_publish_to_a_topic_with_wildcards_ends_the_connection"),
    tested(
        "3.3.2-3",
        "A delivery's topic matches the subscription's filter.",
        "test_a_delivery_matches_the_filter",
        "test_filters_with_one_wildcard_in_the_device_level",
    ),
    tested("3.3.4-1", "A PUBLISH is answered by its QoS.", "test_a_publish_is_answered_by_its_qos"),
    tested(
        "3.3.5-1", "Of overlapping subscriptions the highest QoS counts.", "test_overlapping_subscriptions"
    ),
    tested(
        "3.3.5-2",
        "A PUBLISH that is not authorised is acknowledged, or ends the connection.",
        "test_a_forbidden_publish_is_acknowledged_or_ends_the_connection",
    ),
    tested(
        "3.6.1-1",
        "PUBREL with other flags than 0010 ends the connection.",
        "test_wrong_flags_in_the_first_byte_end_the_connection",
    ),
    # 3.8 to 3.11 SUBSCRIBE and UNSUBSCRIBE
    tested("3.8.1-1", "So does SUBSCRIBE.", "test_wrong_flags_in_the_first_byte_end_the_connection"),
    tested("3.8.3-1", "Filters are UTF-8.", "test_a_topic_that_is_not_utf_8_ends_the_connection"),
    tested(
        "3.8.3-2",
        "A server without wildcards refuses them; ours has them.",
        "test_a_delivery_matches_the_filter",
    ),
    tested(
        "3.8.3-3",
        "A SUBSCRIBE without filters is a violation.",
        "test_a_subscribe_or_unsubscribe_without_filters_ends_the_connection",
    ),
    tested(
        "3.8.3-4",
        "Reserved bits beside the QoS, and QoS 3, end the connection.",
        "test_wrong_subscription_options_end_the_connection",
        "test_the_options_of_mqtt_5_do_not_exist_in_3_1_1",
    ),
    tested(
        "3.8.4-1", "SUBSCRIBE is answered by SUBACK.", "test_a_suback_has_a_code_for_each_filter_in_order"
    ),
    tested("3.8.4-2", "With its packet identifier.", "test_answers_carry_the_packet_id_of_what_they_answer"),
    tested(
        "3.8.4-3",
        "The same filter again replaces the subscription; retained messages come again.",
        "test_a_subscription_to_the_same_filter_replaces_the_former",
    ),
    tested(
        "3.8.4-4",
        "Many filters are handled as many SUBSCRIBEs with one answer.",
        "test_many_filters_are_as_many_subscribes",
    ),
    tested(
        "3.8.4-5",
        "SUBACK has a code for each filter: the QoS granted, or failure.",
        "test_a_suback_has_a_code_for_each_filter_in_order",
        "test_a_suback_tells_of_a_forbidden_filter_and_the_others_work",
    ),
    tested(
        "3.8.4-6",
        "A delivery has the lower QoS of the publish and of the grant.",
        "test_a_delivery_has_the_lower_qos_of_both",
    ),
    tested(
        "3.9.3-1",
        "The codes are in the order of the filters.",
        "test_a_suback_has_a_code_for_each_filter_in_order",
    ),
    tested(
        "3.9.3-2",
        "They are 0, 1, 2 or 0x80.",
        "test_a_suback_tells_of_a_forbidden_filter_and_the_others_work",
        "test_an_invalid_filter_is_refused",
    ),
    tested(
        "3.10.1-1",
        "UNSUBSCRIBE with other flags than 0010 ends the connection.",
        "test_wrong_flags_in_the_first_byte_end_the_connection",
    ),
    tested("3.10.3-1", "Its filters are UTF-8.", "test_a_topic_that_is_not_utf_8_ends_the_connection"),
    tested(
        "3.10.3-2",
        "There is at least one.",
        "test_a_subscribe_or_unsubscribe_without_filters_ends_the_connection",
    ),
    tested(
        "3.10.4-1",
        "It ends the subscription of exactly that filter, character by character.",
        "test_unsubscribe_ends_a_subscription_of_exactly_that_filter",
    ),
    tested(
        "3.10.4-2",
        "No new messages are delivered then.",
        "test_unsubscribe_ends_a_subscription_of_exactly_that_filter",
        "test_unsubscribe_in_a_durable_session_lasts",
    ),
    tested(
        "3.10.4-3",
        "Deliveries at QoS 1 and 2 that have begun are completed.",
        "test_unsubscribe_lets_open_deliveries_end",
    ),
    tested(
        "3.10.4-4",
        "It is answered by UNSUBACK with its packet identifier.",
        "test_answers_carry_the_packet_id_of_what_they_answer",
    ),
    tested(
        "3.10.4-5",
        "Even if there was no such subscription.",
        "test_an_unsuback_has_a_code_for_each_filter_in_order",
    ),
    tested(
        "3.10.4-6",
        "Many filters are handled as many UNSUBSCRIBEs with one answer.",
        "test_an_unsuback_has_a_code_for_each_filter_in_order",
    ),
    # 3.12, 3.14
    tested("3.12.4-1", "PINGREQ is answered by PINGRESP.", "test_pingreq_is_answered"),
    tested(
        "3.14.1-1",
        "DISCONNECT with reserved flags ends the connection.",
        "test_wrong_flags_in_the_first_byte_end_the_connection",
    ),
    client("3.14.4-1", "After DISCONNECT a client closes the connection."),
    tested(
        "3.14.4-2",
        "After DISCONNECT a client sends nothing more; nothing of it would be done.",
        "test_after_disconnect_nothing_more_is_done",
    ),
    tested("3.14.4-3", "DISCONNECT discards the will.", "test_a_will_is_discarded_by_disconnect"),
    # 4 Operational behaviour
    tested(
        "4.1.0-1",
        "The session state is stored as long as the session lasts.",
        "test_messages_wait_for_a_durable_session",
        "test_what_was_acknowledged_outlives_a_restart",
    ),
    tested(
        "4.1.0-2",
        "It lasts at least as long as its connection.",
        "test_a_window_of_a_slow_subscriber_does_not_lose_messages",
    ),
    tested(
        "4.3.1-1", "At QoS 0 a message is sent once, with DUP 0.", "test_a_delivery_has_the_lower_qos_of_both"
    ),
    tested(
        "4.3.2-1",
        "At QoS 1 the sender takes a free identifier, DUP 0, and waits for PUBACK.",
        "test_open_deliveries_have_packet_ids_of_their_own",
        "test_what_is_not_acknowledged_is_sent_again_after_a_reconnect",
        "test_what_is_acknowledged_is_not_sent_again",
    ),
    tested(
        "4.3.2-2",
        "The receiver answers with PUBACK; the same identifier then is a new message.",
        "test_a_publish_is_answered_by_its_qos",
        "test_a_packet_id_may_be_used_again_after_its_flow",
    ),
    tested(
        "4.3.3-1",
        "At QoS 2 the sender waits for PUBREC, sends PUBREL, never the message again, till PUBCOMP.",
        "test_the_flow_of_a_qos_2_delivery",
        "test_pubrel_is_sent_again_after_a_reconnect",
        "test_pubrel_follows_after_a_reconnect_though_pubrec_was_the_last_word",
    ),
    tested(
        "4.3.3-2",
        "The receiver answers repetitions, delivers once, and answers PUBREL with PUBCOMP.",
        "test_a_qos_2_publish_sent_again_is_delivered_once",
        "test_a_pubrel_sent_again_is_answered_again",
        "test_a_qos_2_publish_is_not_lost_after_pubrec",
        "test_a_qos_2_publish_sent_again_after_a_reconnect_is_delivered_once",
        "test_pubrel_of_an_unknown_packet_id_is_answered",
    ),
    tested(
        "4.4.0-1",
        "What is not acknowledged when a session is resumed is sent again with its identifier.",
        "test_what_is_not_acknowledged_is_sent_again_after_a_reconnect",
        "test_pubrel_is_sent_again_after_a_reconnect",
    ),
    tested(
        "4.5.0-1",
        "A message that is taken goes to all sessions with a matching subscription.",
        "test_messages_wait_for_a_durable_session",
        "test_a_delivery_matches_the_filter",
    ),
    client("4.5.0-2", "A client acknowledges what it gets, whether it wants it or not."),
    tested(
        "4.6.0-1",
        "What is sent again comes in its first order.",
        "test_what_is_not_acknowledged_is_sent_again_after_a_reconnect",
    ),
    tested(
        "4.6.0-2",
        "PUBACKs come in the order of the PUBLISHes.",
        "test_acknowledgements_come_in_the_order_of_the_publishes",
    ),
    tested("4.6.0-3", "So do PUBRECs.", "test_acknowledgements_come_in_the_order_of_the_publishes"),
    tested(
        "4.6.0-4",
        "PUBRELs come in the order of the PUBRECs.",
        "test_pubrels_come_in_the_order_of_the_pubrecs",
    ),
    tested(
        "4.6.0-5",
        "Each topic is ordered.",
        "test_deliveries_keep_the_order_of_the_publishes",
        "test_messages_wait_for_a_durable_session",
    ),
    tested(
        "4.6.0-6",
        "In an ordered topic consumers get a client's messages in its order.",
        "test_deliveries_keep_the_order_of_the_publishes",
    ),
    tested(
        "4.7.1-1",
        "Topic names have no wildcards.",
        "test_a_publish_to_a_topic_with_wildcards_ends_the_connection",
        "test_a_will_topic_with_wildcards_is_refused",
    ),
    tested(
        "4.7.1-2",
        "`#` stands alone in the last level.",
        "test_an_invalid_filter_is_refused",
        "test_a_delivery_matches_the_filter",
    ),
    tested(
        "4.7.1-3",
        "`+` stands alone in its level.",
        "test_an_invalid_filter_is_refused",
        "test_a_delivery_matches_the_filter",
    ),
    tested(
        "4.7.2-1",
        "A leading wildcard does not match topics that start with `$`.",
        "test_wildcards_do_not_match_topics_that_start_with_a_dollar",
    ),
    tested(
        "4.7.3-1",
        "Topics and filters are not empty.",
        "test_an_invalid_filter_is_refused",
        "test_a_publish_to_an_empty_topic_ends_the_connection",
    ),
    tested(
        "4.7.3-2", "They have no null character.", "test_a_null_character_in_a_string_ends_the_connection"
    ),
    tested(
        "4.7.3-3",
        "They have 65,535 bytes at most; longer ones can't be written.",
        "test_a_filter_as_long_as_a_string_may_be",
    ),
    tested(
        "4.7.3-4",
        "They are compared as they are, without any normalisation.",
        "test_a_delivery_matches_the_filter",
    ),
    tested(
        "4.8.0-1",
        "A protocol violation ends the connection.",
        "test_a_packet_that_is_too_short_or_too_long_ends_the_connection",
        "test_packets_that_only_a_server_sends_end_the_connection",
    ),
    untested(
        "4.8.0-2",
        "A passing error while a packet is handled ends its connection.",
        "No client can provoke one. The drills take the database away, and count afterwards.",
    ),
    # 6 WebSocket
    tested(
        "6.0.0-1",
        "Packets come in binary frames; others end the connection.",
        "test_a_text_frame_ends_the_connection",
        "test_packets_come_in_binary_frames_of_any_size",
    ),
    tested(
        "6.0.0-2", "Frames and packets need not coincide.", "test_packets_come_in_binary_frames_of_any_size"
    ),
    client("6.0.0-3", "A client offers the subprotocol mqtt."),
    tested("6.0.0-4", "The server answers with the subprotocol mqtt.", "test_the_subprotocol_is_mqtt"),
    # 7 Conformance
    untested(
        "7.0.0-1",
        "A server that connects to other servers is a conformant client, too.",
        "The gateway connects to no other server.",
    ),
    tested(
        "7.0.0-2",
        "Nothing beyond the specification is needed to talk to the server.",
        "test_a_connect_with_every_field_is_accepted",
    ),
    tested(
        "7.1.1-1",
        "A server has an ordered, lossless transport in both directions.",
        "test_packets_may_come_in_any_pieces",
        "test_packets_come_in_binary_frames_of_any_size",
    ),
    client("7.1.2-1", "A client has such a transport."),
)
