"""Tasks for activation, held messages and closed accounts. Their names still begin with `streams.`, because
workers of the release before take them from the same queue."""

import logging

from thingscale.celery import Maintenance, app
from thingscale.devices.models import ActivationRule, Device
from thingscale.lib.errors import ContractError
from thingscale.lib.names import matches
from thingscale.provisioning import account_purge, held_messages
from thingscale.provisioning.actions import activate_by_rule

log = logging.getLogger(__name__)


@app.task(name="streams.purge_closed_accounts", base=Maintenance)
def purge_closed_accounts() -> None:
    account_purge.purge_closed_accounts()


@app.task(name="streams.activate_device")
def activate_device(device: int) -> None:
    """Activates a device on its first contact: the first rule that matches enables and maps it."""
    for new in Device.objects.waiting().filter(pk=device).select_related("user"):
        _activate(new, set())


@app.task(name="streams.activate_new_devices")
def activate_new_devices() -> None:
    """Activates devices whose task was lost, or whose rule is newer than the device."""
    with_rules = ActivationRule.objects.values("user")
    full: set[int] = set()  # so that each is found out once a round
    for new in Device.objects.waiting().filter(user__in=with_rules).select_related("user").iterator():
        _activate(new, full)


@app.task(name="streams.store_left_held", base=Maintenance)
def store_left_held() -> None:
    held_messages.store_left_held()


def _activate(device: Device, full: set[int]) -> None:
    """`full`: accounts that can't have another channel."""
    for rule in ActivationRule.objects.filter(user=device.user_id):
        if matches(device.device_id, rule.pattern):
            if rule.channel_id is None and device.user_id in full:
                return
            try:
                activate_by_rule(device, rule)
            except ContractError as refused:  # by a limit of the account; the next round tries again
                log.info("Device %d is not activated: %s: %s", device.pk, refused.code, refused.detail)
                if refused.code == "MAX_CHANNEL_REACH":
                    full.add(device.user_id)
            return
