"""Tasks for activation, held messages and closed accounts. Their names still begin with `streams.`, because
workers of the release before take them from the same queue."""

import logging

from thingscale.celery import Maintenance, app
from thingscale.devices.models import ActivationRule, Device
from thingscale.lib.errors import ContractError
from thingscale.lib.names import matches
from thingscale.provisioning import account_purge, held_messages
from thingscale.provisioning.actions import configure_device

log = logging.getLogger(__name__)


@app.task(name="streams.purge_closed_accounts", base=Maintenance)
def purge_closed_accounts() -> None:
    account_purge.purge_closed_accounts()


@app.task(name="streams.activate_device")
def activate_device(device: int) -> None:
    """Activates a device on its first contact: the first rule that matches enables and maps it."""
    for new in Device.objects.filter(pk=device, enabled=False, activate_at=None):
        _activate(new)


@app.task(name="streams.activate_new_devices")
def activate_new_devices() -> None:
    """Activates devices whose task was lost, or whose rule is newer than the device."""
    with_rules = ActivationRule.objects.values("user")
    for new in Device.objects.filter(enabled=False, activate_at=None, user__in=with_rules).iterator():
        _activate(new)


@app.task(name="streams.store_left_held", base=Maintenance)
def store_left_held() -> None:
    held_messages.store_left_held()


def _activate(device: Device) -> None:
    for rule in ActivationRule.objects.filter(user=device.user_id):
        if matches(device.device_id, rule.pattern):
            try:
                configure_device(device, {"enabled": True, "mapped_channel_id": rule.channel_id})
            except ContractError as refused:  # by a limit of the account; the next round tries again
                log.info("Device %d is not activated: %s: %s", device.pk, refused.code, refused.detail)
            return
