"""Tags: made, renamed, deleted; what a deleted one leaves is out of sight at once and purged."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from series import count, fill, totals

from thingscale.accounts.models import User
from thingscale.devices.models import Device
from thingscale.lib.clock import now_us
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import TagPk
from thingscale.lib.points import Points
from thingscale.streams import queries, recent_messages, retention, tasks, writer
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.actions.datapoints import store_points, store_rows
from thingscale.streams.actions.tags import create_tag, delete_tag, rename_tag
from thingscale.streams.models import Channel, DeletedTag, Latest, Tag


@pytest.fixture
def channel(user: User) -> Channel:
    return create_channel(user, 0)


def delete(channel: Channel, name: str) -> int:
    """Returns the key that it had."""
    tag = Tag.objects.get(channel=channel, name=name)
    key = tag.pk
    delete_tag(tag)
    return key


def late(channel: Channel, tag: int, at: int = 1_700_000_000_000_000) -> None:
    """A batch that was routed before the tag was deleted."""
    store_rows([writer.Row(channel.id, at, None, TagPk(tag), b"1", None)])


def seen(channel: Channel) -> int:
    return sum(page.count("_id") for page in queries.pages(queries.Selection(channel.id, "UTC")))


def test_a_tag_is_made_and_renamed(channel: Channel) -> None:
    fill(channel, 3, tag="a")
    create_tag(channel, "b")
    with pytest.raises(ContractError, match="already"):
        create_tag(channel, "b")
    tag = Tag.objects.get(name="a")
    with pytest.raises(ContractError, match="already"):
        rename_tag(tag, "b")
    rename_tag(tag, "c")
    assert set(Tag.objects.values_list("name", flat=True)) == {"b", "c"}


def test_a_deleted_tag_is_out_of_sight_at_once_and_purged_later(channel: Channel, user: User) -> None:
    other = create_channel(user, 1)
    fill(channel, 3, tag="a")
    fill(channel, 4, tag="b")
    fill(channel, 2)
    fill(other, 5, tag="a")
    key = delete(channel, "a")
    assert (count(channel.pk), seen(channel), seen(other)) == (9, 6, 5)
    assert not Latest.objects.shown().filter(tag=key).exists()
    tasks.purge_deleted_tags()
    assert (count(channel.pk), seen(channel), count(other.pk)) == (6, 6, 5)
    kept = Tag.objects.get(channel=channel).pk
    assert totals(channel) == {Latest.UNTAGGED: 2, kept: 4}


def test_what_came_last_is_told_without_a_deleted_tag(channel: Channel, user: User) -> None:
    device = Device.objects.create(user=user, device_id="pump", mapped_channel=channel)
    keys = [Tag.objects.create(channel=channel, name=name).id for name in ("a", "b")]
    rows: list[tuple[TagPk | None, bytes]] = [(None, b"1"), (keys[0], b"2"), *[(keys[1], b"3")] * 5]
    start = now_us() - 1000
    store_rows(
        [
            writer.Row(channel.id, start + n, device.id, tag, value, None)
            for n, (tag, value) in enumerate(rows)
        ]
    )
    delete(channel, "b")
    found = queries.newest_of_device(channel.id, device.id, rows=5, look_at=5, characters=10)
    assert [(point.tag, point.value) for point in found] == [("a", "2"), (None, "1")]
    assert [(arrival.tag, arrival.value) for arrival in recent_messages.stored(user, 5)] == [
        ("a", "2"),
        (None, "1"),
    ]


def test_it_is_purged_slice_by_slice(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    for month in (0, 40, 80):
        fill(channel, 10, timezone.now() - timedelta(days=month), tag="a")
        fill(channel, 10, timezone.now() - timedelta(days=month, seconds=1), tag="b")
    delete(channel, "a")
    assert retention.purge_deleted_tags() == 30
    assert count(channel.pk) == 30


def test_more_datapoints_of_one_moment_than_a_slice_has(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 3)
    store_points(channel, Points.of([("a", b"1", 1_500_000_000_000_000)] * 10))
    delete(channel, "a")
    assert retention.purge_deleted_tags() == 10


def test_the_name_can_be_used_again_before_the_purge(channel: Channel) -> None:
    fill(channel, 3, tag="a")
    key = delete(channel, "a")
    fill(channel, 2, tag="a")
    assert Tag.objects.get().pk != key
    assert seen(channel) == 2
    assert retention.purge_deleted_tags() == 3
    assert seen(channel) == count(channel.pk) == 2


def test_datapoints_that_were_on_their_way_are_never_seen(channel: Channel) -> None:
    fill(channel, 3, tag="a")
    key = delete(channel, "a")
    assert retention.purge_deleted_tags() == 3
    late(channel, key)
    assert (seen(channel), count(channel.pk)) == (0, 1)
    assert not Latest.objects.shown().exists()
    assert retention.purge_deleted_tags() == 1
    assert totals(channel) == {}


def test_a_deleted_tag_is_forgotten_after_an_hour_without_late_datapoints(channel: Channel) -> None:
    fill(channel, 1, tag="a")
    key = delete(channel, "a")
    assert retention.purge_deleted_tags() == 1
    assert DeletedTag.objects.exists()
    DeletedTag.objects.update(deleted_at=timezone.now() - timedelta(hours=2))
    late(channel, key)
    assert retention.purge_deleted_tags() == 1
    assert retention.purge_deleted_tags() == 0
    assert not DeletedTag.objects.exists()


def test_a_batch_behind_the_purge_is_found_by_the_next(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(channel, 5, tag="a")
    key = delete(channel, "a")
    purge = retention._delete_tags

    def overtaken(*arguments: Any) -> int:
        deleted = purge(*arguments)
        late(channel, key)
        return deleted

    monkeypatch.setattr(retention, "_delete_tags", overtaken)
    assert retention.purge_deleted_tags() == 5
    assert totals(channel) == {key: 6}
    monkeypatch.undo()
    assert retention.purge_deleted_tags() == 1
    assert (count(channel.pk), totals(channel)) == (0, {})


def test_a_round_without_late_datapoints_does_not_read_the_channel(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(channel, 1, tag="a")
    delete(channel, "a")
    retention.purge_deleted_tags()
    monkeypatch.setattr(retention, "_delete_tags", None)
    assert retention.purge_deleted_tags() == 0


def test_deleting_a_tag_twice_is_no_error(channel: Channel) -> None:
    fill(channel, 1, tag="a")
    first, second = Tag.objects.get(), Tag.objects.get()
    delete_tag(first)
    delete_tag(second)
    assert DeletedTag.objects.count() == 1


def test_the_purge_is_asked_for_on_commit(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(tasks.purge_deleted_tags, "apply_async", lambda **options: asked.append(options))
    fill(channel, 1, tag="a")
    with django_capture_on_commit_callbacks(execute=True):
        delete(channel, "a")
        assert not asked
    assert asked == [{"retry": False, "expires": 600}]


def test_without_valkey_the_tag_is_deleted_all_the_same(
    channel: Channel,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away(**options: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(tasks.purge_deleted_tags, "apply_async", away)
    fill(channel, 1, tag="a")
    with django_capture_on_commit_callbacks(execute=True):
        delete(channel, "a")
    assert seen(channel) == 0
    assert "waits for the next round" in caplog.text


def test_a_bulk_write_makes_its_tags_without_using_up_keys(channel: Channel) -> None:
    points = [(f"t{number % 3}", b"1", now_us() + number) for number in range(9)]
    keys = set()
    for _ in range(3):
        assert store_points(channel, Points.of(points)) == 9
        with connection.cursor() as cursor:
            cursor.execute("SELECT last_value FROM streams_tag_id_seq")
            keys.add(cursor.fetchone()[0])
    assert len(keys) == 1
    assert sorted(totals(channel).values()) == [9, 9, 9]
