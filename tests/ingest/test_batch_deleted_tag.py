"""A tag is deleted while ingest still knows its key."""

from feeding import STORED, Feed, message
from support import Account

from ingest.service import connect
from thingscale.lib.clock import now_us
from thingscale.streams import queries, retention, writer
from thingscale.streams.actions.tags import delete_tag
from thingscale.streams.models import Latest, Tag


def seen(account: Account) -> int:
    selection = queries.Selection(account.channel().id, "UTC")
    return sum(page.count("_id") for page in queries.pages(selection))


def stored(account: Account) -> int:
    return len(account.stored())


def test_a_batch_that_knows_the_old_key(feed: Feed, account: Account) -> None:
    account.device("d1")
    assert feed(message(account, tag="a")) == [STORED]
    delete_tag(Tag.objects.get())
    assert feed(message(account, tag="a")) == [STORED]  # the router has not heard of it yet
    assert (stored(account), seen(account)) == (2, 0)
    assert not Latest.objects.shown().exists()
    feed.device_cache.on_change(None)
    assert feed(message(account, tag="a")) == [STORED]
    assert (stored(account), seen(account)) == (3, 1)
    assert retention.purge_deleted_tags() == 2
    assert (stored(account), seen(account)) == (1, 1)


def test_a_batch_that_commits_after_the_deletion(feed: Feed, account: Account) -> None:
    account.device("d1")
    feed(message(account, tag="a"))
    tag = Tag.objects.get()
    row = writer.Row(account.channel().id, now_us(), None, tag.id, b"2", None)
    with connect() as other, other.transaction(), other.cursor() as cursor:
        writer.write(cursor, [row])
        delete_tag(tag)
        assert seen(account) == 0
    assert (stored(account), seen(account)) == (2, 0)
    assert not Latest.objects.shown().exists()
    assert retention.purge_deleted_tags() == 2
    assert stored(account) == 0
