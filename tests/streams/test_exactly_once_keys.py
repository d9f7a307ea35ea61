"""The keys by which what is sent again is recognised stay what they are: two releases share them."""

import pytest

from thingscale.streams.exactly_once import keys


def test_the_keys_of_the_release_before() -> None:
    assert keys.of_http(1, "d1", b"k1") == -4517897881211035277
    assert keys.of_rest(7, "k1") == -8710950394806279637
    assert keys.of_packet(b"packet", keys.client_seed("1:c")) == 3206364892383321964


@pytest.mark.parametrize("number", range(50))
def test_the_sign_says_where_a_key_comes_from(number: int) -> None:
    assert keys.of_http(number, "d", b"k") < 0
    assert keys.of_rest(number, "k") < 0
    assert keys.of_packet(b"%d" % number, 0) >= 0


def test_parts_that_run_together_are_told_apart() -> None:
    assert keys.of_http(1, "d1", b"1") != keys.of_http(1, "d", b"11")
    assert keys.fingerprint(b"a", b"bc") != keys.fingerprint(b"ab", b"c")
