"""A row of the conformance table: one normative statement, by the number in its specification."""

from typing import Final, NamedTuple


class Row(NamedTuple):
    """Either `tests` shows that the server keeps the statement, or `reason` says why no test does."""

    number: str
    says: str  # in our words
    tests: tuple[str, ...] = ()
    reason: str = ""


CLIENT: Final = "It binds clients only."
NO_METHOD: Final = "The server supports no authentication method, so such an exchange never begins."


def tested(number: str, says: str, *tests: str) -> Row:
    return Row(number, says, tests=tests)


def untested(number: str, says: str, reason: str) -> Row:
    return Row(number, says, reason=reason)


def client(number: str, says: str) -> Row:
    return untested(number, says, CLIENT)
