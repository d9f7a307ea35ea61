"""Writes of a channel's tags."""

import logging

import psycopg
from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from thingscale.accounts.limits import no_room_for_tags
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk, TagPk
from thingscale.lib.names import TAG_RULE, bad_tag
from thingscale.processes import change_notifications
from thingscale.streams import rollups, writer
from thingscale.streams.models import Channel, DeletedTag, Tag

log = logging.getLogger(__name__)


@transaction.atomic
def create_tag(channel: Channel, name: str) -> None:
    """Raises ContractError: BAD_PARAMETER, CHANNEL_INUSE, QUOTA_EXCEEDED."""
    if bad_tag(name):
        raise ContractError("BAD_PARAMETER", _("A tag has %(rule)s.") % {"rule": _(TAG_RULE)})
    if Tag.objects.filter(channel=channel, name=name).exists():
        raise ContractError(
            "CHANNEL_INUSE",
            _("Channel %(number)s has a tag %(name)s already.") % {"number": channel.number, "name": name},
        )
    tag_keys({(channel.id, name)})


def tag_keys(names: set[tuple[ChannelPk, str]]) -> dict[tuple[ChannelPk, str], TagPk]:
    """Primary keys of tags by channel and name; makes those that are missing.
    Raises ContractError: QUOTA_EXCEEDED, if the account can't have so many."""
    if not names:
        return {}
    raw: psycopg.Connection = connection.connection
    with raw.cursor() as cursor:
        found = writer.tag_keys(cursor, list(names))
    if missing := len(names) - len(found):
        channel = next(channel for channel, name in names if (channel, name) not in found)
        most = Channel.objects.values_list("user__max_tags", flat=True).get(pk=channel)
        raise ContractError("QUOTA_EXCEEDED", no_room_for_tags(missing, most))
    return found


@transaction.atomic
def rename_tag(tag: Tag, name: str) -> None:
    """Raises ContractError: BAD_PARAMETER for a name that no tag may have or another tag of the channel has,
    NO_CHANNEL if it has been deleted meanwhile."""
    if bad_tag(name):
        raise ContractError("BAD_PARAMETER", _("A tag has %(rule)s.") % {"rule": _(TAG_RULE)})
    try:
        with transaction.atomic():
            found = Tag.objects.filter(pk=tag.pk).update(name=name)
    except IntegrityError:
        raise ContractError(
            "BAD_PARAMETER", _("tag: there is a tag %(name)s already.") % {"name": name}
        ) from None
    if not found:
        raise ContractError("NO_CHANNEL", _("The tag %(name)s has just been deleted.") % {"name": tag.name})
    tag.name = name
    change_notifications.announce("devices", tag.channel.user_id)


@transaction.atomic
def delete_tag(tag: Tag) -> None:
    """The tag's datapoints are out of sight at once and purged by a task, together with those that ingest
    stores before it hears of the deletion (decision 0013). The next datapoint after that makes a new tag of
    this name."""
    deleted = DeletedTag(tag=tag.pk, channel=tag.channel_id)
    if not tag.delete()[0]:
        return  # somebody else was faster
    deleted.save(force_insert=True)
    rollups.delete_of_tag(ChannelPk(tag.channel_id), TagPk(deleted.tag))
    change_notifications.announce("devices", tag.channel.user_id)
    transaction.on_commit(_purge_soon)


def _purge_soon() -> None:
    from thingscale.streams.tasks import purge_deleted_tags  # which imports this module

    try:
        purge_deleted_tags.apply_async(retry=False, expires=600)
    except Exception as error:
        log.warning("A deleted tag waits for the next round of the purge: %s", type(error).__name__)
