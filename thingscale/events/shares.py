"""How many notifications are sent at once: of a process, of an account and to a receiver. So a receiver that
hangs keeps nobody waiting but itself. Pure.
"""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from thingscale.lib.ids import UserPk

THREADS = 50  # of a process
OF_ACCOUNT = 10
FAILING_OF_ACCOUNT = 3  # to receivers that failed last time
OF_RECEIVER = 8  # once it has answered often enough
MAIL_SERVER = 5  # it is one for all accounts
IN_A_ROW = 5  # webhooks that one job sends to a receiver that is quick: one job each costs as much as sending
QUICK_SECONDS = 0.2  # for all of them
MAX_PAUSE = 30.0  # seconds after a failure; twice as many each time
REMEMBERED = 10_000  # receivers


class ReceiverKey(NamedTuple):
    user: UserPk
    name: str  # Delivery.receiver


@dataclass
class ReceiverHealth:
    """How it went with a receiver."""

    in_flight: int = 0
    share: int = 2
    failures: int = 0  # in a row
    seconds: float = QUICK_SECONDS  # that a message took, last time
    paused_until: float = 0.0

    @property
    def in_a_row(self) -> int:
        if self.failures or self.share < OF_RECEIVER:
            return 1
        return max(min(int(QUICK_SECONDS / max(self.seconds, 0.001)), IN_A_ROW), 1)

    def ended(self, well: bool, now: float, pause: float = 0.0) -> None:
        """`pause`: what the receiver asks for, in seconds."""
        self.in_flight -= 1
        if well:
            self.failures, self.paused_until = 0, 0.0
            self.share = min(self.share * 2, OF_RECEIVER)
        else:
            self.failures += 1
            self.share = 1
            self.paused_until = now + max(pause, min(2.0 ** (self.failures - 1), MAX_PAUSE))


class Wanted(NamedTuple):
    """A receiver for which something is due."""

    receiver: ReceiverKey
    is_mail: bool
    for_people: bool  # what is due for it is one job, whatever it is


class Shares:
    def __init__(self) -> None:
        self.receivers: dict[ReceiverKey, ReceiverHealth] = {}
        self.mail_server = ReceiverHealth(share=MAIL_SERVER)
        self._of_account: Counter[UserPk] = Counter()

    @property
    def in_flight(self) -> int:
        return self._of_account.total()

    def choose(self, due: list[Wanted], now: float) -> list[tuple[Wanted, int]]:
        """How many jobs may begin for each receiver."""
        self._forget()
        free = THREADS - self.in_flight
        chosen: list[tuple[Wanted, int]] = []
        began = Counter(self._of_account)
        failing: Counter[UserPk] = Counter()
        for receiver, it in self.receivers.items():
            failing[receiver.user] += it.in_flight if it.failures else 0
        mails = self.mail_server.in_flight
        accounts = len({wanted.receiver.user for wanted in due})
        share = min(OF_ACCOUNT, max(free // accounts, 2)) if accounts else 0
        # Who has least in flight comes first, so that nobody is starved by the order of the rows.
        for wanted in sorted(due, key=lambda each: began[each.receiver.user]):
            user = wanted.receiver.user
            it = self.receivers.get(wanted.receiver, ReceiverHealth())
            most = min((1 if wanted.for_people else it.share) - it.in_flight, free, share - began[user])
            if now < it.paused_until or (it.failures and failing[user] >= FAILING_OF_ACCOUNT):
                continue
            if wanted.is_mail:
                if now < self.mail_server.paused_until:
                    continue
                most = min(most, self.mail_server.share - mails, MAIL_SERVER - mails)
            if most <= 0:
                continue
            chosen.append((wanted, most))
            free -= most
            began[user] += most
            failing[user] += bool(it.failures)
            mails += wanted.is_mail
        return chosen

    def in_a_row(self, wanted: Wanted) -> int:
        """How many webhooks one job may send to it."""
        it = self.receivers.get(wanted.receiver)
        return it.in_a_row if it else 1

    def took(self, wanted: Wanted, seconds: float) -> None:
        """For a message."""
        self.receivers[wanted.receiver].seconds = seconds

    def began(self, wanted: Wanted) -> None:
        self.receivers.setdefault(wanted.receiver, ReceiverHealth()).in_flight += 1
        self._of_account[wanted.receiver.user] += 1
        self.mail_server.in_flight += wanted.is_mail

    def ended(
        self, wanted: Wanted, well: bool, now: float, pause: float = 0.0, server_well: bool = True
    ) -> None:
        """`well`: it answered, be it with a refusal. `server_well`: the mail server did."""
        self.receivers[wanted.receiver].ended(well, now, pause)
        self._of_account[wanted.receiver.user] -= 1
        if wanted.is_mail:
            self.mail_server.ended(server_well, now)

    def _forget(self) -> None:
        if len(self.receivers) > REMEMBERED:
            self.receivers = {key: it for key, it in self.receivers.items() if it.in_flight}
