"""Writes of devices. Mapping to a channel is in provisioning/actions.py, since it stores held messages."""

from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from thingscale.accounts.actions import locked
from thingscale.accounts.limits import no_more_than
from thingscale.accounts.models import Account, User
from thingscale.devices import deleted
from thingscale.devices.listening import GAPS_KEPT
from thingscale.devices.models import ActivationRule, Device, ListeningGap, MinuteCount
from thingscale.lib.errors import ContractError
from thingscale.lib.ids import ChannelPk, DevicePk
from thingscale.lib.names import DEVICE_ID_RULE, ENDS_RULE, bad_device_id
from thingscale.processes import change_notifications, compatibility


@transaction.atomic
def create_device(account: Account, device_id: str, **fields: Any) -> Device:
    """Creates a device for a person.

    Raises ContractError: DEVICE_ID_ZERO, BAD_PARAMETER, MAX_DEVICE_REACH, DEVICE_INUSE.
    """
    if code := bad_device_id(device_id):
        raise ContractError(code, _(DEVICE_ID_RULE))
    account = locked(account)
    if Device.objects.for_account(account).count() >= account.max_devices:
        raise ContractError("MAX_DEVICE_REACH", no_more_than(account.max_devices, "device"))
    try:
        with transaction.atomic():
            device = Device(user=account, device_id=device_id, **fields)
            device.activate_at = timezone.now() if device.enabled else None
            device.save(force_insert=True)
    except IntegrityError:
        raise ContractError(
            "DEVICE_INUSE",
            _("There is a device %(device_id)s already: change that one.") % {"device_id": device_id},
        ) from None
    change_notifications.announce("device", account.pk, device_id)
    return device


@transaction.atomic
def delete_device(device: Device) -> None:
    """Its datapoints stay in the channel, and go on naming it; its held messages are deleted."""
    deleted.keep_ids([device.id])
    device.delete()
    change_notifications.announce("device", device.user_id, device.device_id)


@transaction.atomic
def delete_devices(account: Account, devices: QuerySet[Device]) -> int:
    """Deletes those of the devices that are the account's. Returns how many."""
    keys = lock_devices(account, devices)
    deleted.keep_ids(keys)
    Device.objects.filter(pk__in=keys).delete()
    change_notifications.announce("devices", account.pk)
    return len(keys)


def lock_devices(account: Account, devices: QuerySet[Device]) -> list[DevicePk]:
    """Locks those of the devices that are the account's, in the order in which ingest locks them."""
    own = Device.objects.for_account(account).filter(pk__in=devices.values("pk"))
    return [DevicePk(pk) for pk in own.order_by("pk").select_for_update().values_list("pk", flat=True)]


@transaction.atomic
def create_rule(
    account: Account, pattern: str, channel: ChannelPk | None, position: int | None = None
) -> ActivationRule:
    """Adds a rule, after the others if no position is given. Without a channel, each device gets its own.
    Raises ContractError: BAD_PARAMETER, TRY_AGAIN."""
    rules = _rules(account)
    _check_pattern(pattern, rules)
    if channel is None:
        _check_releases()
    if len(rules) >= (most := locked(account).max_rules):
        raise ContractError("BAD_PARAMETER", no_more_than(most, "rule"))
    last = rules[-1].position + 1 if rules else 0
    rule = ActivationRule.objects.create(
        user_id=account.pk, pattern=pattern, channel_id=channel, position=last
    )
    if position is not None:
        _place([*rules, rule], rule, position)
    return rule


@transaction.atomic
def update_rule(rule: ActivationRule, changes: dict[str, Any], position: int | None = None) -> None:
    """Changes `pattern` and `channel_id`, and the rule's place among the others. Raises ContractError:
    NO_RULE, if it has been deleted meanwhile, BAD_PARAMETER, TRY_AGAIN."""
    rules = _rules(rule.user)
    if rule not in rules:
        raise ContractError("NO_RULE", _("This rule has just been deleted."))
    if "pattern" in changes:
        _check_pattern(changes["pattern"], [other for other in rules if other != rule])
    if changes.get("channel_id", ...) is None:
        _check_releases()
    if changes:
        ActivationRule.objects.filter(pk=rule.pk).update(**changes)
    if position is not None:
        _place(rules, rule, position)


@transaction.atomic
def move_rule(rule: ActivationRule, by: int) -> None:
    """Moves the rule down by so many places, or up if `by` is negative."""
    rules = _rules(rule.user)
    if rule in rules:  # else it has just been deleted
        _place(rules, rule, max(0, rules.index(rule) + by))


def _check_releases() -> None:
    """The release before knows no rule without a channel: it would enable devices and leave them unmapped."""
    if compatibility.older_release_runs(connection.connection):
        raise ContractError(
            "TRY_AGAIN",
            _("The platform is being updated: give each device its own channel once that is done."),
        )


def _check_pattern(pattern: str, others: list[ActivationRule]) -> None:
    if bad_device_id(pattern.replace("*", "x").replace("?", "x")):
        raise ContractError(
            "BAD_PARAMETER",
            _("A pattern has 1 to 64 characters, no / + # or control characters, and %(ends_rule)s.")
            % {"ends_rule": _(ENDS_RULE)},
        )
    if any(rule.pattern == pattern for rule in others):
        raise ContractError(
            "BAD_PARAMETER",
            _("There is a rule for %(pattern)s already: delete that one first.") % {"pattern": pattern},
        )


def _place(rules: list[ActivationRule], rule: ActivationRule, position: int) -> None:
    """Puts the rule there, at most to the end."""
    rules.remove(rule)
    rules.insert(position, rule)
    for number, row in enumerate(rules):
        row.position = number
    ActivationRule.objects.bulk_update(rules, ["position"])


def delete_rule(rule: ActivationRule) -> None:
    rule.delete()


def _rules(account: Account) -> list[ActivationRule]:
    """The rules in order. Nobody else can change them until COMMIT."""
    User.objects.select_for_update().get(pk=account.pk)
    return list(ActivationRule.objects.for_account(account))


def forget_old_activity() -> None:
    """Deletes old minutes and gaps in listening, the activity that ingest wrote of a device while that was
    being deleted, and the oldest ids of deleted devices."""
    MinuteCount.objects.filter(minute__lt=timezone.now() - MinuteCount.KEPT).delete()
    ListeningGap.objects.filter(ended_at__lt=timezone.now() - GAPS_KEPT).delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM devices_activity a"
            " WHERE NOT EXISTS (SELECT FROM devices_device d WHERE d.id = a.device_id)"
        )
    deleted.forget_oldest()
