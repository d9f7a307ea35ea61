"""Warns accounts that come near a limit: on each page of the console, and by mail.

One mail goes out for each level that is reached. Another one for the same level goes out only after the use
has fallen clearly below it, so that an account that swings around a level gets no mail each time. A mail that
could not be sent is tried again, as long as it is still true.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPResponseException

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from thingscale.accounts import emails
from thingscale.accounts.limits import WORDS, use_in_words
from thingscale.accounts.models import Account, LimitWarning, User
from thingscale.background import maintenance
from thingscale.lib.ids import UserPk
from thingscale.streams.usage import LimitUse, limit_use

log = logging.getLogger(__name__)

LEVELS = (80, 95, 100)  # percent
CLEARLY = 5  # percentage points below a level, at which the use has left it
BATCH_ACCOUNTS = 500
MAIL_SECONDS = 20.0  # in one round: the worker has other mails to send
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)  # until a mail is tried again
MAX_TRIES = 10  # of a mail that the mail server refuses: it will never know this address


def look() -> None:
    """Measures all accounts, and updates what their pages show and which mails are due."""
    last = 0
    while users := list(User.objects.filter(pk__gt=last, closed_at=None).order_by("pk")[:BATCH_ACCOUNTS]):
        maintenance.check_stop()
        measured = limit_use(users)
        update_near_limits(users, measured)
        _update_levels(measured)
        last = users[-1].pk
    LimitWarning.objects.exclude(user__in=User.objects.filter(closed_at=None)).delete()


def update_near_limits(
    accounts: Sequence[Account], measured: Mapping[UserPk, Mapping[str, LimitUse]]
) -> None:
    """For the pages. Skips accounts that are locked, as by an import, instead of waiting: the next look
    updates them."""
    changed = []
    for account in accounts:
        used = measured.get(account.id, {})
        near = {name: used[name].used for name in WORDS if name in used and used[name].percent >= LEVELS[0]}
        if near != account.near_limits:
            account.near_limits = near
            changed.append(User(pk=account.pk, near_limits=near))
    if changed:
        with transaction.atomic():
            rows = User.objects.select_for_update(no_key=True, skip_locked=True)
            free = set(rows.filter(pk__in=[user.pk for user in changed]).values_list("pk", flat=True))
            User.objects.bulk_update([user for user in changed if user.pk in free], ["near_limits"])


@transaction.atomic
def _update_levels(measured: Mapping[UserPk, Mapping[str, LimitUse]]) -> None:
    warnings = LimitWarning.objects.select_for_update().filter(user__in=measured).order_by("pk")
    before = {(warning.user_id, warning.limit): warning for warning in warnings}
    new = []
    for user, used in measured.items():
        for name in WORDS:
            warning = before.get((user, name))
            level = level_after(warning.level if warning else 0, used[name].percent)
            if warning is None and level:
                new.append(LimitWarning(user_id=user, limit=name, level=level))
            elif warning and not level:
                warning.delete()
            elif warning and level != warning.level:
                if level > warning.level:
                    warning.tries, warning.next_try_at = 0, timezone.now()
                warning.level, warning.mailed = level, min(warning.mailed, level)
                warning.save()
    LimitWarning.objects.bulk_create(new, ignore_conflicts=True)  # another worker may look, too


def level_after(level: int, percent: int) -> int:
    """The level after `level`, once `percent` of the limit are used. It rises at once."""
    reached = max((each for each in LEVELS if percent >= each), default=0)
    not_left = max((each for each in LEVELS if percent >= each - CLEARLY), default=0)
    return max(reached, min(level, not_left))


def mail() -> int:
    """Sends the mails that are due, and returns how many went out. After a mail that the server refuses, the
    next one is sent; if the server is away, this round ends. Each round begins with another account."""
    sent, end = 0, time.monotonic() + MAIL_SECONDS
    while settings.EMAIL_HOST and time.monotonic() < end and (warning := _claim_due()):
        user = User.objects.filter(pk=warning.user_id, is_active=True).first()
        use = limit_use([user]).get(user.id, {}).get(warning.limit) if user else None
        if user is None or use is None or level_after(warning.level, use.percent) < warning.level:
            continue  # no longer true: the next look will find that, too
        try:
            with emails.in_language_of(user):
                sentence = use_in_words(warning.limit, *use, user.when_full)
                emails.send_limit_warning(user, WORDS[warning.limit].name, use.percent, sentence)
        except (SMTPRecipientsRefused, SMTPResponseException) as error:
            given_up = warning.tries >= MAX_TRIES
            if given_up:
                LimitWarning.objects.filter(pk=warning.pk, level=warning.level).update(mailed=warning.level)
            _log(warning, "given up" if given_up else "tried again", error)
        except OSError as error:
            _log(warning, "tried again", error)
            break
        else:
            LimitWarning.objects.filter(pk=warning.pk).update(mailed=warning.level, tries=0)
            sent += 1
    return sent


def _log(warning: LimitWarning, then: str, error: Exception) -> None:
    log.warning(
        "The mail to U%06d on a limit failed and is %s: %s", warning.user_id, then, type(error).__name__
    )


@transaction.atomic
def _claim_due() -> LimitWarning | None:
    """The warning that has waited longest for its mail. It is due again after a wait, in case this process
    ends before the mail is sent."""
    now = timezone.now()
    due = LimitWarning.objects.filter(level__gt=F("mailed"), next_try_at__lte=now, user__is_active=True)
    warning = due.select_for_update(skip_locked=True, of=("self",)).order_by("next_try_at", "pk").first()
    if warning is not None:
        warning.next_try_at = now + min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(warning.tries, 10))
        warning.tries += 1
        warning.save(update_fields=["next_try_at", "tries"])
    return warning
