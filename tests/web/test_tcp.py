"""Under which address a connection is counted, and whose is not."""

import pytest

from thingscale.web.tcp import Proxies, counted_address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_h8_an_ipv6_network_counts_as_one(one: str, other: str, same: bool) -> None:
    assert (counted_address(one) == counted_address(other)) is same


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("127.0.0.1", ["127.0.0.1", "::ffff:127.0.0.1"], ["127.0.0.2", "::1", "", "unix:"]),
        ("10.0.0.0/8, 2001:db8::/32,192.0.2.7", ["10.9.8.7", "2001:db8::1", "192.0.2.7"], ["192.0.2.8"]),
        ("*", ["192.0.2.1", "::1", ""], []),
        ("", [], ["127.0.0.1", ""]),
        ("/run/proxy.sock,10.0.0.300,10.0.0.1", ["10.0.0.1"], ["10.0.0.300", "10.0.0.2"]),
    ],
)
def test_proxies_that_are_trusted(text: str, inside: list[str], outside: list[str]) -> None:
    proxies = Proxies(text)
    assert all(host in proxies for host in inside)
    assert not any(host in proxies for host in outside)
