"""Rules for passwords: one text however it is typed, and nothing that the account's page shows."""

import re
import unicodedata
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from thingscale.accounts.models import User

MAX_SIMILARITY = 0.7  # as Django's own validator has it
SHORTEST_PART = 4  # "com" and "the" are in many a good password


def normalised(password: str) -> str:
    """A Mac types `ü` as u and a combining mark, Windows as one character: NFKC makes them the same."""
    return unicodedata.normalize("NFKC", password)


def spellings(password: str) -> list[str]:
    """The texts that a stored hash may be of. Older hashes are of the text as some keyboard gave it, before
    passwords were normalised. A password in ASCII has one spelling."""
    forms = [unicodedata.normalize(form, password) for form in ("NFKC", "NFC", "NFD")]
    return list(dict.fromkeys([forms[0], password, *forms[1:]]))


class UnlikeTheAccount:
    """Refuses a password that is almost the e-mail, the organization or the name, or a part of them."""

    def validate(self, password: str, user: "User | None" = None) -> None:
        if user is None:
            return
        facts = {
            _("e-mail"): [user.email, user.email.partition("@")[0], user.email1, user.email2],
            _("organization"): [user.organization],
            _("name"): [user.user_alias],
            _("user id"): [user.user_id] if user.pk else [],
        }
        for name, texts in facts.items():
            if any(_similar(password, part) for text in texts for part in _parts(text)):
                raise ValidationError(
                    _("This password is too similar to your %(name)s: choose another.") % {"name": name},
                    code="too_similar",
                )

    def get_help_text(self) -> str:
        return _("Not your e-mail, your organization or your name.")


def _parts(text: str) -> set[str]:
    return {part for part in {text, *re.split(r"[\W_]+", text)} if len(part) >= SHORTEST_PART}


def _similar(password: str, part: str) -> bool:
    password, part = (normalised(text).casefold() for text in (password, part))
    # With letters and digits alone, too: "Ada-Lovelace!" is "ada.lovelace".
    bare_password, bare_part = (re.sub(r"[\W_]+", "", text) for text in (password, part))
    for left, right in ((password, part), (bare_password, bare_part)):
        shorter, longer = sorted((len(left), len(right)))
        # Texts whose lengths differ too much can't be similar, and long ones would take long to compare.
        if not shorter or 2 * shorter / (shorter + longer) < MAX_SIMILARITY:
            continue
        if SequenceMatcher(a=left, b=right).quick_ratio() >= MAX_SIMILARITY:
            return True
    return False
