"""Words of the platform in the language of the page: those that are stored, and nouns with their count.

What is stored, sent and answered to programs stays English; only pages show these.
"""

from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy, pgettext_lazy

WORDS = {
    # severities
    "info": _("info"),
    "warning": _("warning"),
    "critical": _("critical"),
    # states of an event, and of what it watches
    "ok": pgettext_lazy("state", "ok"),
    "pending": _("pending"),
    "firing": _("firing"),
    "no data": _("no data"),
    "muted": _("muted"),
    # states of devices, and of what can be switched
    "all": _("all"),
    "new": pgettext_lazy("state", "new"),
    "enabled": _("enabled"),
    "disabled": _("disabled"),
    "unmapped": _("unmapped"),
    "silent": _("silent"),
    "unheard": _("never heard"),
    # what became of a message
    "stored": _("stored"),
    "held": _("held"),
    "rejected": _("rejected"),
    "duplicate": _("duplicate"),
    "nothing": _("nothing"),
    # notifications, and what they are about
    "waiting": _("waiting"),
    "sent": _("sent"),
    "failed": _("failed"),
    "left out": _("left out"),
    "retried": _("retried"),
    "match": _("match"),
    "resolved": _("resolved"),
    "test": _("test"),
    "brake": _("brake"),
    # commands
    "delivered": _("delivered"),
    "acknowledged": _("acknowledged"),
    "not sent": _("not sent"),
    "no such device": _("no such device"),
}
NOUNS = {
    "channel": ngettext_lazy("%(count)s channel", "%(count)s channels", "number"),
    "datapoint": ngettext_lazy("%(count)s datapoint", "%(count)s datapoints", "number"),
    "day": ngettext_lazy("%(count)s day", "%(count)s days", "number"),
    "device": ngettext_lazy("%(count)s device", "%(count)s devices", "number"),
    "key": ngettext_lazy("%(count)s key", "%(count)s keys", "number"),
    "hour": ngettext_lazy("%(count)s hour", "%(count)s hours", "number"),
    "message": ngettext_lazy("%(count)s message", "%(count)s messages", "number"),
    "minute": ngettext_lazy("%(count)s minute", "%(count)s minutes", "number"),
    "reading": ngettext_lazy("%(count)s reading", "%(count)s readings", "number"),
    "receiver": ngettext_lazy("%(count)s receiver", "%(count)s receivers", "number"),
    "tag": ngettext_lazy("%(count)s tag", "%(count)s tags", "number"),
    "time": ngettext_lazy("%(count)s time", "%(count)s times", "number"),
}


def word(name: str | None) -> str:
    """A word that is not known stays as it is: it may be a code of the contract."""
    return str(WORDS.get(name, name)) if name else ""


def counted(count: Any, noun: str) -> str:
    """`1 datapoint`, `2,000 datapoints`."""
    number = count or 0
    text: str = NOUNS[noun] % {"number": number, "count": f"{number:,}"}
    return text
