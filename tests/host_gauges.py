"""A device as its host's page shows it."""

from stack import wait_until
from support import Account

from thingscale.hosts.look import find, look
from thingscale.hosts.models import Host


def wait_for_gauges(account: Account, sender: str) -> Host:
    """Until the account has a host that `sender` measures, whose CPU, memory and disk are known."""

    def is_there() -> bool:
        find()
        look()
        known = Host.objects.for_account(account.user).filter(sender=sender)
        return known.exclude(cpu=None).exclude(memory=None).exclude(disk=None).exists()

    wait_until(is_there, 120, "CPU, memory and disk of a host")
    found = Host.objects.for_account(account.user).get()
    assert found.cpu is not None
    assert found.memory is not None
    assert found.disk is not None
    assert 0 <= found.cpu <= 100
    assert 0 < found.memory <= 100
    assert 0 < found.disk <= 100
    assert found.disk_name.startswith("/")
    assert found.load is not None
    return found
