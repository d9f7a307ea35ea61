"""What an account has stored."""

from typing import NamedTuple

from django.db.models import Sum

from thingscale.accounts.models import User
from thingscale.streams.models import Latest


class Storage(NamedTuple):
    datapoints: int
    bytes: int


def used_storage(user: User) -> Storage:
    kept = Latest.objects.shown().filter(channel__user=user)
    found = kept.aggregate(n=Sum("count"), size=Sum("bytes"))
    return Storage(found["n"] or 0, found["size"] or 0)
