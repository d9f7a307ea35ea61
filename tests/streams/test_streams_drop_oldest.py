"""Accounts whose oldest datapoints are deleted when their storage is full."""

from datetime import datetime, timedelta

from django.utils import timezone

from thingscale.accounts.models import User
from thingscale.lib.clock import to_us
from thingscale.streams import retention, writer
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.actions.datapoints import store_rows
from thingscale.streams.models import Channel, Latest
from thingscale.streams.usage import used_storage


def fill(channel: Channel, points: int, first: datetime) -> None:
    """Ten bytes each minute."""
    times = [to_us(first + timedelta(minutes=n)) for n in range(points)]
    store_rows([writer.Row(channel.id, at, None, None, b"1234567890", None) for at in times])


def test_b3_the_oldest_of_all_channels_go_until_there_is_room(user: User, outsider: User) -> None:
    begin = timezone.now() - timedelta(days=2)
    older, newer = create_channel(user, 0), create_channel(user, 1)
    others = create_channel(outsider, 0)
    for channel, first in ((older, begin), (newer, begin + timedelta(days=1)), (others, begin)):
        fill(channel, 100, first)
    User.objects.update(when_full="drop_oldest", max_storage=10_000)
    User.objects.filter(pk=user.pk).update(max_storage=1_500)
    assert retention.drop_oldest() == 55
    user.refresh_from_db()
    assert used_storage(user).bytes == 1_450  # 97 % of it, by whole datapoints
    totals = dict(Latest.objects.values_list("channel", "count"))
    assert totals == {older.pk: 45, newer.pk: 100, others.pk: 100}
    assert retention.drop_oldest() == 0


def test_b3_accounts_that_refuse_new_data_lose_none(user: User) -> None:
    fill(create_channel(user, 0), 10, timezone.now() - timedelta(days=2))
    User.objects.update(max_storage=1)
    assert retention.drop_oldest() == 0
    assert used_storage(user).datapoints == 10
