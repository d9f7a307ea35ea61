"""Tells accounts that little is left of what they may have: on each page of the console, and by mail.

One mail goes out for each level that is reached, and another one for the same level only after the use has
fallen clearly below it: an account that swings around a level is not written to each time. A mail that could
not be sent is tried again, as long as it is still true.
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
from thingscale.accounts.models import LimitWarning, User
from thingscale.background import maintenance
from thingscale.streams.usage import Share, shares

log = logging.getLogger(__name__)

LEVELS = (80, 95, 100)  # percent
CLEARLY = 5  # percentage points that the use has to fall below a level
SLICE = 500  # accounts
MAIL_SECONDS = 20.0  # in one round: the worker has other mails to send
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)  # until a mail is tried again
MOST_REFUSALS = 10  # by the mail server; it does not know this e-mail, and never will


def look() -> None:
    """At all accounts."""
    last = 0
    while users := list(User.objects.filter(pk__gt=last, closed_at=None).order_by("pk")[:SLICE]):
        maintenance.check_stop()
        measured = shares(users)
        keep_near(users, measured)
        _keep_levels(measured)
        last = users[-1].pk
    LimitWarning.objects.exclude(user__in=User.objects.filter(closed_at=None)).delete()


def keep_near(users: Sequence[User], measured: Mapping[int, Mapping[str, Share]]) -> None:
    """For the pages. Whoever has an account locked, as an import does, is not waited for: the next look
    keeps it."""
    changed = []
    for user in users:
        used = measured.get(user.pk, {})
        near = {name: used[name].used for name in WORDS if name in used and used[name].percent >= LEVELS[0]}
        if near != user.near_limits:
            user.near_limits = near
            changed.append(user)
    if changed:
        with transaction.atomic():
            rows = User.objects.select_for_update(no_key=True, skip_locked=True)
            free = set(rows.filter(pk__in=[user.pk for user in changed]).values_list("pk", flat=True))
            User.objects.bulk_update([user for user in changed if user.pk in free], ["near_limits"])


@transaction.atomic
def _keep_levels(measured: Mapping[int, Mapping[str, Share]]) -> None:
    kept = LimitWarning.objects.select_for_update().filter(user__in=measured).order_by("pk")
    before = {(warning.user_id, warning.limit): warning for warning in kept}
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
    """The level that a limit is at, with so much of it used by now. It rises at once."""
    reached = max((each for each in LEVELS if percent >= each), default=0)
    not_left = max((each for each in LEVELS if percent >= each - CLEARLY), default=0)
    return max(reached, min(level, not_left))


def mail() -> int:
    """Sends what is due, and returns how many mails went out. One that the server refuses keeps no other
    waiting; a server that is away ends this round, and each round begins with another account."""
    sent, end = 0, time.monotonic() + MAIL_SECONDS
    while settings.EMAIL_HOST and time.monotonic() < end and (warning := _take()):
        try:
            sent += _send(warning)
        except (SMTPRecipientsRefused, SMTPResponseException) as error:
            given_up = warning.tries >= MOST_REFUSALS
            if given_up:
                LimitWarning.objects.filter(pk=warning.pk, level=warning.level).update(mailed=warning.level)
            _log(warning, "given up" if given_up else "tried again", error)
        except OSError as error:
            _log(warning, "tried again", error)
            break
    return sent


def _log(warning: LimitWarning, then: str, error: Exception) -> None:
    log.warning(
        "The mail to U%06d on a limit failed and is %s: %s", warning.user_id, then, type(error).__name__
    )


@transaction.atomic
def _take() -> LimitWarning | None:
    """The warning that has waited longest for its mail. Should this process end meanwhile, it is due again
    after the wait."""
    now = timezone.now()
    due = LimitWarning.objects.filter(level__gt=F("mailed"), next_try_at__lte=now, user__is_active=True)
    warning = due.select_for_update(skip_locked=True, of=("self",)).order_by("next_try_at", "pk").first()
    if warning is not None:
        warning.next_try_at = now + min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(warning.tries, 10))
        warning.tries += 1
        warning.save(update_fields=["next_try_at", "tries"])
    return warning


def _send(warning: LimitWarning) -> bool:
    """False if it is no longer true: the next look will find that, too."""
    user = User.objects.filter(pk=warning.user_id, is_active=True).first()
    share = shares([user]).get(user.pk, {}).get(warning.limit) if user else None
    if user is None or share is None or level_after(warning.level, share.percent) < warning.level:
        return False
    sentence = use_in_words(warning.limit, *share, user.when_full)
    emails.send_limit_warning(user, WORDS[warning.limit].name, share.percent, sentence)
    LimitWarning.objects.filter(pk=warning.pk).update(mailed=warning.level, tries=0)
    return True
