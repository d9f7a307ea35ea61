"""What an account has stored."""

from typing import NamedTuple

from django.db.models import Sum

from thingscale.accounts.models import User
from thingscale.streams.models import Latest


class Storage(NamedTuple):
    datapoints: int
    bytes: int


def used_storage(user: User) -> Storage:
    found = Latest.objects.filter(channel__user=user).aggregate(n=Sum("count"), size=Sum("bytes"))
    return Storage(found["n"] or 0, found["size"] or 0)
