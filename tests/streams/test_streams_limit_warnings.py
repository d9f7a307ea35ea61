"""B3: accounts are told at 80 and 95 % of each limit, and when it is reached."""

from collections.abc import Callable
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any

import pytest
from django.core import mail as django_mail
from django.core.mail.backends.locmem import EmailBackend
from django.utils import timezone
from pytest_django import Settings
from support import Account, make_account

from ingest.service import connect
from thingscale.accounts.actions import change_account, close_account
from thingscale.accounts.limits import WORDS, use_in_words
from thingscale.accounts.models import LimitWarning, User
from thingscale.devices.models import Device
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams import limit_warnings
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.actions.tags import create_tag
from thingscale.streams.limit_warnings import level_after, look, mail
from thingscale.streams.models import Tag
from thingscale.streams.tasks import look_at_limits, mail_limit_warnings
from thingscale.streams.usage import limit_use

FAILING: dict[str, Exception] = {}  # by the e-mail


class Backend(EmailBackend):
    """Django's own one for tests, but that some mails fail."""

    def send_messages(self, messages: Any) -> int:
        for message in messages:
            if error := FAILING.get(message.to[0]):
                raise error
        return super().send_messages(messages)


@pytest.fixture(autouse=True)
def _mail(settings: Settings) -> None:
    FAILING.clear()
    settings.EMAIL_BACKEND = f"{__name__}.Backend"
    settings.EMAIL_HOST = "mail.example.com"
    settings.PUBLIC_URL = "https://iot.example.com"
    django_mail.outbox = []


@pytest.fixture
def stranger(account: Account) -> Account:
    return make_account("stranger@example.com")


def subjects(account: Account) -> list[str]:
    return [str(letter.subject) for letter in django_mail.outbox if letter.to == [account.user.email]]


def devices(account: Account, count: int) -> None:
    Device.objects.for_account(account.user).delete()
    Device.objects.bulk_create(Device(user=account.user, device_id=f"d{n}") for n in range(count))


def told_of(account: Account, count: int) -> list[str]:
    """The mails that this many devices, of a hundred, cause."""
    django_mail.outbox.clear()
    devices(account, count)
    look()
    mail()
    return [subject.rpartition(", ")[2] for subject in subjects(account)]


@pytest.fixture
def hundred(account: Account) -> Account:
    User.objects.filter(pk=account.user.pk).update(max_devices=100)
    return account


@pytest.mark.parametrize(
    ("level", "percent", "then"),
    [
        (0, 79, 0),
        (0, 80, 80),
        (0, 94, 80),
        (0, 95, 95),
        (0, 500, 100),
        (80, 75, 80),
        (80, 74, 0),
        (80, 96, 95),
        (95, 90, 95),
        (95, 89, 80),
        (95, 74, 0),
        (100, 95, 100),
        (100, 94, 95),
        (100, 80, 80),
        (100, 0, 0),
    ],
)
def test_b3_a_level_is_reached_at_once_and_left_when_the_use_is_clearly_below(
    level: int, percent: int, then: int
) -> None:
    assert level_after(level, percent) == then


def test_b3_one_mail_for_each_crossing(hundred: Account, stranger: Account) -> None:
    assert told_of(hundred, 79) == []
    assert told_of(hundred, 80) == ["80 % used"]
    assert told_of(hundred, 81) == told_of(hundred, 78) == told_of(hundred, 80) == []
    assert told_of(hundred, 96) == ["96 % used"]
    assert told_of(hundred, 91) == told_of(hundred, 95) == []
    assert told_of(hundred, 100) == ["full"]
    assert told_of(hundred, 96) == told_of(hundred, 101) == []
    assert told_of(hundred, 60) == []
    assert told_of(hundred, 100) == ["full"]  # and none for the levels on the way
    assert subjects(stranger) == []


def test_b3_the_mail_says_which_limit_how_full_and_what_to_do(hundred: Account) -> None:
    told_of(hundred, 81)
    (letter,) = django_mail.outbox
    assert letter.subject == f"Your ThingScale account {hundred.user_id}: Devices, 81 % used"
    assert (
        "Devices: 81 % used, 81 of 100. Once full, what a new device sends is refused. Delete devices that"
        " are no longer used, or ask the operator for more." in letter.body
    )
    assert "https://iot.example.com/profile/#limits" in letter.body


def full_of_tags(account: Account) -> None:
    channel = account.channel()
    for n in range(4):
        create_tag(channel, f"t{n}")


def full_of_bytes(account: Account) -> None:
    store_points(account.channel(), Points.of([(None, b"12345678", now_us())]))


@pytest.mark.parametrize(
    ("fill", "limits", "subject"),
    [
        (full_of_tags, {"max_tags": 5}, "Tags, 80 % used"),
        (full_of_tags, {"max_tags": 2}, "Tags, full"),
        (full_of_bytes, {"max_storage": 10}, "Storage, 80 % used"),
        (full_of_bytes, {"max_storage": 8, "when_full": "drop_oldest"}, "Storage, full"),
        (full_of_bytes, {"max_channels": 1}, "Channels, full"),
    ],
)
def test_b3_each_limit_is_warned_of(
    account: Account,
    stranger: Account,
    fill: Callable[[Account], None],
    limits: dict[str, int | str],
    subject: str,
) -> None:
    fill(account)
    User.objects.filter(pk=account.user.pk).update(**limits)
    look_at_limits()
    mail_limit_warnings()
    assert subjects(account) == [f"Your ThingScale account {account.user_id}: {subject}"]
    assert subjects(stranger) == []
    if limits.get("when_full") == "drop_oldest":
        assert "The oldest datapoints are deleted now" in django_mail.outbox[0].body


def test_b3_every_limit_that_is_warned_of_has_words_and_a_column(account: Account) -> None:
    assert WORDS.keys() == limit_use([account.user])[account.user.id].keys() - {"rejected", "unread"}
    for name in WORDS:
        most = account.user.limit(name)
        sentence = use_in_words(name, most, most, "refuse")
        assert "full" in sentence
        assert sentence.endswith("or ask the operator for more.")


def test_b3_what_is_near_is_kept_with_the_account_for_its_pages(hundred: Account, stranger: Account) -> None:
    devices(hundred, 90)
    look()
    near = dict(User.objects.values_list("pk", "near_limits"))
    assert near == {hundred.user.pk: {"devices": 90}, stranger.user.pk: {}}
    devices(hundred, 10)
    look()
    assert User.objects.get(pk=hundred.user.pk).near_limits == {}
    assert not LimitWarning.objects.exists()


def test_b3_an_account_that_is_busy_keeps_no_other_waiting(hundred: Account, stranger: Account) -> None:
    """An import has its row locked, for as long as it takes."""
    User.objects.update(max_devices=10)
    devices(hundred, 9)
    devices(stranger, 9)
    with connect() as other, other.transaction():
        other.execute("SELECT FROM accounts_user WHERE id = %s FOR NO KEY UPDATE", [hundred.user.pk])
        look()
    near = User.objects.in_bulk()
    assert (near[hundred.user.pk].near_limits, near[stranger.user.pk].near_limits) == ({}, {"devices": 9})
    look()
    assert User.objects.get(pk=hundred.user.pk).near_limits == {"devices": 9}


def due_again() -> None:
    LimitWarning.objects.update(next_try_at=timezone.now())


def test_b3_a_mail_server_that_is_away_gets_the_mail_later_and_once(hundred: Account) -> None:
    devices(hundred, 85)
    look()
    FAILING[hundred.user.email] = ConnectionRefusedError()
    assert mail() == 0
    (warning,) = LimitWarning.objects.all()
    assert (warning.level, warning.mailed, warning.tries) == (80, 0, 1)
    assert warning.next_try_at > timezone.now() + timedelta(seconds=30)
    FAILING.clear()
    assert mail() == 0  # not yet
    due_again()
    assert (mail(), mail()) == (1, 0)
    due_again()
    look()
    assert mail() == 0
    assert len(subjects(hundred)) == 1


@pytest.mark.parametrize(
    "error",
    [
        SMTPRecipientsRefused({"x@example.com": (550, b"unknown")}),
        SMTPServerDisconnected(),
        TimeoutError(),
    ],
)
def test_b3_one_mail_that_fails_keeps_no_other_waiting(
    hundred: Account, stranger: Account, error: Exception
) -> None:
    User.objects.update(max_devices=10)
    for account in (hundred, stranger):
        devices(account, 9)
    look()
    FAILING[hundred.user.email] = error
    mail()
    mail()  # the next round, where the server itself seemed to be away
    assert len(subjects(stranger)) == 1
    FAILING.clear()
    due_again()
    mail()
    assert (len(subjects(hundred)), len(subjects(stranger))) == (1, 1)


def test_b3_an_e_mail_that_the_server_never_takes_is_given_up(hundred: Account) -> None:
    devices(hundred, 85)
    look()
    FAILING[hundred.user.email] = SMTPRecipientsRefused({})
    for _ in range(limit_warnings.MAX_TRIES):
        due_again()
        mail()
    FAILING.clear()
    due_again()
    assert mail() == 0
    assert told_of(hundred, 95) == ["95 % used"]  # a new crossing is a new reason to try


def test_b3_what_is_no_longer_true_is_not_mailed(hundred: Account) -> None:
    devices(hundred, 85)
    look()
    devices(hundred, 10)
    assert mail() == 0
    devices(hundred, 85)
    look()
    due_again()
    change_account(hundred.user, {"max_devices": 1000})
    assert mail() == 0
    look()
    assert not LimitWarning.objects.exists()


def test_b3_two_workers_send_one_mail(hundred: Account) -> None:
    """The one that comes second finds the warning taken, or nothing due."""
    devices(hundred, 85)
    look()
    with connect() as other, other.transaction():
        other.execute("SELECT FROM accounts_limitwarning FOR UPDATE")
        assert mail() == 0
    assert (mail(), mail()) == (1, 0)


def test_b3_nobody_is_mailed_without_a_server_or_once_the_account_is_closed(
    hundred: Account, settings: Settings
) -> None:
    devices(hundred, 85)
    look()
    settings.EMAIL_HOST = ""
    assert mail() == 0
    settings.EMAIL_HOST = "mail.example.com"
    close_account(hundred.user)
    assert mail() == 0
    look()
    assert not LimitWarning.objects.exists()


def test_b3_a_look_costs_no_more_for_more_accounts(
    account: Account, stranger: Account, django_assert_max_num_queries: Any
) -> None:
    """Of which little is used: 500 of them at a time."""
    User.objects.bulk_create(User(email=f"u{n}@example.com") for n in range(100))
    with django_assert_max_num_queries(10):
        look()
    assert not LimitWarning.objects.exists()


def test_b3_a_tag_that_is_deleted_counts_no_longer(account: Account) -> None:
    full_of_tags(account)
    User.objects.update(max_tags=4)
    look()
    assert mail() == 1
    Tag.objects.all().delete()
    look()
    assert not LimitWarning.objects.exists()
