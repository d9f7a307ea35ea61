"""What a row of the conformance table is: one normative statement, by the number that its specification gives it."""

from typing import Final, NamedTuple


class Row(NamedTuple):
    """Either `tests` shows that the server keeps the statement, or `reason` says why no test does."""

    number: str
    says: str  # in our words
    tests: tuple[str, ...] = ()
    reason: str = ""


CLIENT: Final = "It binds clients only."
NO_METHOD: Final = "The server supports no authentication method, so such an exchange never begins."
ALL_SUPPORTED: Final = (
    "It is for servers that leave something out; that ours does not is shown by "
    "test_the_server_supports_all_that_a_server_may_leave_out."
)


def tested(number: str, says: str, *tests: str) -> Row:
    return Row(number, says, tests=tests)


def untested(number: str, says: str, reason: str) -> Row:
    return Row(number, says, reason=reason)


def client(number: str, says: str) -> Row:
    return untested(number, says, CLIENT)
