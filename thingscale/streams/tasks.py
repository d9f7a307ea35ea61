"""Background work on channels and on the devices mapped to them."""

import logging
from fnmatch import fnmatchcase

from thingscale.celery import Upkeep, app
from thingscale.devices.models import ActivationRule, Device
from thingscale.lib.errors import Refused
from thingscale.streams import actions, closing, limit_warnings, retention, rollups
from thingscale.streams.exactly_once import commit_log, redeliveries, submissions

log = logging.getLogger(__name__)


@app.task(name="streams.make_partitions", base=Upkeep)
def make_partitions() -> None:
    retention.make_partitions()


@app.task(name="streams.drop_expired", base=Upkeep)
def drop_expired() -> None:
    retention.drop_expired()
    retention.drop_empty_partitions()
    redeliveries.forget_old()
    submissions.forget_old()
    commit_log.forget_old()


@app.task(name="streams.drop_oldest", base=Upkeep)
def drop_oldest() -> None:
    retention.drop_oldest()


@app.task(name="streams.look_at_limits", base=Upkeep)
def look_at_limits() -> None:
    limit_warnings.look()


@app.task(name="streams.mail_limit_warnings")
def mail_limit_warnings() -> None:
    limit_warnings.mail()


@app.task(name="streams.purge_deleted_channels", base=Upkeep)
def purge_deleted_channels() -> None:
    retention.purge_deleted_channels()


@app.task(name="streams.roll_up", base=Upkeep)
def roll_up() -> None:
    rollups.roll_up(seconds=50)


@app.task(name="streams.purge_deleted_tags", base=Upkeep)
def purge_deleted_tags() -> None:
    retention.purge_deleted_tags()


@app.task(name="streams.purge_closed_accounts", base=Upkeep)
def purge_closed_accounts() -> None:
    closing.purge_closed_accounts()


@app.task(name="streams.activate_device")
def activate_device(device: int) -> None:
    """Auto-activation on first contact: the first rule that matches enables and maps the device."""
    for new in Device.objects.filter(pk=device, enabled=False, activate_at=None):
        _activate(new)


@app.task(name="streams.activate_new_devices")
def activate_new_devices() -> None:
    """Catches up on first contacts whose task was lost, and on rules that came after the device."""
    with_rules = ActivationRule.objects.values("user")
    for new in Device.objects.filter(enabled=False, activate_at=None, user__in=with_rules).iterator():
        _activate(new)


@app.task(name="streams.store_left_held", base=Upkeep)
def store_left_held() -> None:
    actions.store_left_held()


def _activate(device: Device) -> None:
    for rule in ActivationRule.objects.filter(user=device.user_id):
        if fnmatchcase(device.device_id, rule.pattern.replace("[", "[[]")):  # * and ? only
            try:
                actions.configure_device(device, {"enabled": True, "mapped_channel_id": rule.channel_id})
            except Refused as refused:  # by a limit of the account; the next round tries again
                log.info("Device %d is not activated: %s: %s", device.pk, refused.code, refused.detail)
            return
