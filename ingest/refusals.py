"""Which refusals at a door are recorded, where everybody's knocking would flood an account's list. Pure."""

MAX_ACCOUNTS = 10_000  # remembered at once


class Refusals:
    """In each `seconds` of an account: one for each sender, and `most` of them."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._windows: dict[object, tuple[float, set[object]]] = {}  # by account: begin, senders recorded

    def due(self, account: object, sender: object, now: float) -> bool:
        """Whether to record this one; `now` in seconds, of any origin."""
        begin, senders = self._windows.get(account, (now, set()))
        if now - begin >= self._seconds:
            begin, senders = now, set()
        if sender in senders or len(senders) >= self._most:
            return False
        if account not in self._windows and len(self._windows) >= MAX_ACCOUNTS:
            self._windows.clear()
        self._windows[account] = begin, senders | {sender}
        return True


def too_fast() -> Refusals:
    """Of devices that send faster than they may: each has signed in."""
    return Refusals(30, 60.0)


def sign_ins() -> Refusals:
    """Of clients that could not sign in: anybody may knock, and the list keeps a thousand."""
    return Refusals(10, 3600.0)
