"""Limits how many refused requests of one account are recorded: anybody can send them, and they would flood
the account's list of rejected messages. Pure."""

MAX_ACCOUNTS = 10_000  # remembered at once


class RecordLimiter:
    """In each window of `seconds`, records one request of each sender, and at most `most` of an account."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._windows: dict[object, tuple[float, set[object]]] = {}  # by account: begin, senders recorded

    def should_record(self, account: object, sender: object, now: float) -> bool:
        """`now` is in seconds, of any origin."""
        begin, senders = self._windows.get(account, (now, set()))
        if now - begin >= self._seconds:
            begin, senders = now, set()
        if sender in senders or len(senders) >= self._most:
            return False
        if account not in self._windows and len(self._windows) >= MAX_ACCOUNTS:
            self._windows.clear()
        self._windows[account] = begin, senders | {sender}
        return True
