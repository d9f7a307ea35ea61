"""Tokens and names."""

import pytest

from thingscale.lib import tokens
from thingscale.lib.names import bad_device_id, bad_tag, is_blank, may_exist


def test_new_tokens_are_32_upper_case_hex_characters_and_differ() -> None:
    made = {tokens.new() for _ in range(100)}
    assert len(made) == 100
    assert all(tokens.well_formed(token) and token == token.upper() for token in made)


@pytest.mark.parametrize("token", ["", "0" * 31, "0" * 33, "a" * 32, "G" * 32, "0" * 32 + "\n", "０" * 32])
def test_what_is_no_token(token: str) -> None:
    assert not tokens.well_formed(token)


def test_a_digest_shows_nothing_of_the_token() -> None:
    token = tokens.new()
    assert len(tokens.digest(token)) == 32
    assert tokens.digest(token) == tokens.digest(token) != bytes.fromhex(token)


@pytest.mark.parametrize("name", ["a", "x" * 64, "é" * 64, "a b.c", "😀", "$", "0a", "~"])
def test_names_that_serve_as_device_id_and_tag(name: str) -> None:
    assert bad_device_id(name) is None
    assert not bad_tag(name)


@pytest.mark.parametrize("name", ["x" * 129, "/", "a+b", "#", "\n", "\x7f", "\x80", "a\ud800", "\0"])
def test_names_that_do_not(name: str) -> None:
    assert bad_device_id(name) == "BAD_PARAMETER"
    assert bad_tag(name)


@pytest.mark.parametrize("tag", ["a/b", "sensor/temp/state", "x" * 128])
def test_tags_may_have_levels_and_be_longer(tag: str) -> None:
    assert not bad_tag(tag)
    assert bad_device_id(tag) == "BAD_PARAMETER"


@pytest.mark.parametrize("tag", ["/a", "a/", "a//b", "/", "x" * 129, "a/+", "a/#"])
def test_a_tag_has_no_empty_level(tag: str) -> None:
    assert bad_tag(tag)


@pytest.mark.parametrize(
    "invisible", list(" \xa0\u3000\u2003\u2028\u200b\u200d\ufeff\xad\u200e\u202e\u2066\u2800\u3164")
)
def test_r2_a_new_name_has_nothing_invisible_at_its_ends(invisible: str) -> None:
    for name in (f"room{invisible}", f"{invisible}room", invisible, f"{invisible}é{invisible}"):
        assert bad_device_id(name) == "BAD_PARAMETER"
        assert bad_tag(name)
        assert may_exist(name)
    assert not bad_tag(f"a{invisible}b")
    assert is_blank(invisible)
    assert not is_blank(f"{invisible}a")


def test_zero_is_a_tag_and_no_device_id() -> None:
    assert bad_device_id("0") == bad_device_id("") == "DEVICE_ID_ZERO"
    assert not bad_tag("0")
    assert bad_tag("")
