"""What one account's clients may have at once, in count and bytes."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from client import Client, Endpoint
from stack import Stack, wait_until
from support import Account

from ingest.mqtt.packets import PUBACK, V5, V31, V311, Ack, Publish, Subscription, Version
from thingscale.accounts.actions import change_account
from thingscale.devices.models import ClientSession, GatewayUse
from thingscale.streams.usage import limit_use

pytestmark = pytest.mark.e2e
Start = Callable[..., Stack]
QUOTA_EXCEEDED, SERVER_UNAVAILABLE = 0x97, 3
UNREAD = 2**20


def make(running: Stack, account: Account, name: str, version: Version = V311) -> Client:
    endpoint = Endpoint(running.mqtt, account.user_id, account.device_token.encode())
    return Client(endpoint, name, version)


@pytest.fixture
def ended() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# Connections


@pytest.mark.parametrize(
    ("version", "code"), [(V31, SERVER_UNAVAILABLE), (V311, SERVER_UNAVAILABLE), (V5, QUOTA_EXCEEDED)]
)
def test_one_connection_too_many_is_refused(
    stack: Start, account: Account, outsider: Account, ended: ExitStack, version: Version, code: int
) -> None:
    """Not one in place of another; and what the operator changes counts at once."""
    running = stack("ingest")
    change_account(account.user, {"max_connections": 2})
    clients = [make(running, account, name, version) for name in ("a", "b", "c")]
    a, b, c = clients
    for client in (*clients, other := make(running, outsider, "a")):
        ended.callback(client.vanish)
    a.connect()
    b.connect()
    c.connect(code=code)
    assert c.receive() is None
    other.connect()
    again = make(running, account, "a", version)
    ended.callback(again.vanish)
    again.connect()
    a.closed()
    c.connect(code=code)
    b.disconnect()
    c.connect()
    b.connect(code=code)
    change_account(account.user, {"max_connections": 3})
    deadline = time.monotonic() + 10
    while True:
        with suppress(AssertionError):
            b.connect()
            break
        assert time.monotonic() < deadline, "what the operator has changed does not count"


def test_connections_at_the_same_moment_are_counted_too(
    stack: Start, account: Account, ended: ExitStack
) -> None:
    running = stack("ingest")
    change_account(account.user, {"max_connections": 5})
    clients = [make(running, account, f"c-{number}", V5) for number in range(20)]
    for client in clients:
        ended.callback(client.vanish)
        client.dial()
        properties = {0x11: 60}
        client.send(client.connect_packet(clean=False, properties=properties))
    codes = [getattr(client.receive(), "code", None) for client in clients]
    assert (codes.count(0), codes.count(QUOTA_EXCEEDED)) == (5, 15)
    assert ClientSession.objects.count() == 5


# Subscriptions


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_a_client_has_a_thousand_subscriptions_at_most(
    stack: Start, account: Account, ended: ExitStack, version: Version
) -> None:
    """Also if one packet asks for more. Those that it has, it may ask for again."""
    running, token = stack("ingest"), account.device_token
    client = make(running, account, "many", version)
    ended.callback(client.vanish)
    client.connect()
    failure = QUOTA_EXCEEDED if version == V5 else 0x80

    def ask(first: int, last: int) -> list[int]:
        wanted = [Subscription(f"{token}/d-{n}/subscribe", 1, False, False, 0) for n in range(first, last)]
        return client.subscribe_all(wanted).codes

    assert ask(0, 1_200) == [1] * 1_000 + [failure] * 200
    assert ask(900, 1_100) == [1] * 100 + [failure] * 100
    assert ask(0, 1_000) == [1] * 1_000
    client.unsubscribe(f"{token}/d-5/subscribe")
    assert ask(1_199, 1_201) == [1, failure]


# What waits for those who do not read


@pytest.fixture(scope="module")
def _little(django_db_setup: None) -> Iterator[Stack]:
    made = Stack(THINGSCALE_UNREAD_BYTES=str(UNREAD), THINGSCALE_SUBSCRIPTIONS="100")
    yield made
    made.stop()


@pytest.fixture
def little(_little: Stack, transactional_db: None) -> Stack:
    _little.ensure("ingest")
    return _little


def test_an_account_has_a_number_of_subscriptions_too(
    little: Stack, account: Account, outsider: Account, ended: ExitStack
) -> None:
    """Of all its clients, shared ones, and of sessions that are away."""
    token = account.device_token
    away, there = make(little, account, "away"), make(little, account, "there", V5)
    ended.callback(there.vanish)
    away.connect(clean=False)
    wanted = [Subscription(f"{token}/away-{n}/+", 1, False, False, 0) for n in range(60)]
    assert away.subscribe_all(wanted).codes == [1] * 60
    away.disconnect()
    there.connect()
    wanted = [Subscription(f"$share/g/{token}/there-{n}/+", 1, False, False, 0) for n in range(60)]
    assert there.subscribe_all(wanted).codes == [1] * 40 + [QUOTA_EXCEEDED] * 20
    away.connect()  # which ends its session
    assert there.subscribe_all(wanted).codes == [1] * 60
    away.vanish()
    other = make(little, outsider, "other")
    ended.callback(other.vanish)
    other.connect()
    assert other.subscribe(f"{outsider.device_token}/#", 1) == 1


def test_who_does_not_read_is_cut_off_and_the_others_are_served(
    little: Stack, account: Account, outsider: Account, ended: ExitStack
) -> None:
    """Each has less unread than one connection may have; together it is too much. What a durable session
    does not get now comes later."""
    token = account.device_token
    deaf = [make(little, account, f"deaf-{number}") for number in range(30)]
    reads, lasting = make(little, account, "reads"), make(little, account, "lasting")
    sender, other = make(little, account, "sender"), make(little, outsider, "other")
    for client in (*deaf, reads, lasting, sender, other):
        ended.callback(client.vanish)
        client.connect(clean=client is not lasting, keep_alive=0)
    for client in (*deaf, lasting, reads):
        assert client.subscribe(f"{token}/d/subscribe", 1) == 1
    assert other.subscribe(f"{outsider.device_token}/d/subscribe", 1) == 1
    padding = b" " * 60_000
    sent = 0

    def publish() -> None:
        nonlocal sent
        sender.publish(f"{token}/d/subscribe", b"%d" % sent + padding, 1)
        while int(reads.message().payload.strip()) < sent:
            pass
        sent += 1
        other.publish(f"{outsider.device_token}/d/subscribe", b"%d" % sent, 1)
        other.message(b"%d" % sent)

    def cut() -> bool:
        if sent < 300:
            publish()
        return "cut off" in little.log("ingest")

    wait_until(cut, 60, "somebody to be cut off")
    publish()
    for number in range(sent):
        packet = lasting.receive()
        if packet is None:  # it was one of them
            lasting.connect(clean=False)
            packet = lasting.receive()
        assert isinstance(packet, Publish)
        assert int(packet.payload.strip()) <= number or packet.dup
        lasting.send(Ack(PUBACK, packet.packet_id, 0, {}))


# What waits on disk for all durable sessions of an account


def test_queues_of_an_account_that_are_full_together_take_no_more(
    stack: Start, account: Account, outsider: Account, ended: ExitStack
) -> None:
    """Whoever publishes notices nothing, datapoints are stored; another account's sessions get theirs, and so
    does one of the same account that keeps up. What was queued is delivered; then there is room again."""
    running, token, padding = stack("ingest"), account.device_token, b" " * 3_000
    reads = make(running, account, "reads")
    ended.callback(reads.vanish)
    reads.connect(clean=False)
    reads.subscribe(f"{token}/#", 1)
    account.device("d")
    change_account(account.user, {"max_queued": 5_000})
    away = [make(running, account, name) for name in ("one", "two")]
    sender, other, others_sender = (
        make(running, account, "sender"),
        make(running, outsider, "away"),
        make(running, outsider, "sender"),
    )
    for client in (*away, other, sender, others_sender):
        ended.callback(client.vanish)
        client.connect(clean=client in {sender, others_sender})
    for client in (*away, other):
        owner = outsider if client is other else account
        client.subscribe(f"{owner.device_token}/#", 1)
        client.disconnect()

    def dropped(of: Account) -> int:
        return sum(ClientSession.objects.filter(account=of.user).values_list("dropped", flat=True))

    sent = 0

    def publish() -> bool:
        nonlocal sent
        sent += 1
        sender.publish(f"{token}/json/d", b"%d" % sent + padding, 1)  # and waits for PUBACK
        assert int(reads.message(qos=1).payload) == sent
        return bool(dropped(account))

    wait_until(publish, 60, "the queues to be full")
    kept = sent - 1
    others_sender.publish(f"{outsider.device_token}/json/d", b"1" + padding, 1)
    sender.publish(f"{token}/d/subscribe", b"a command", 1)
    reads.message(b"a command", 1)
    assert dropped(account) == 4  # two messages in two sessions
    assert dropped(outsider) == 0
    assert len(account.stored()) == sent
    other.connect(clean=False)
    other.message(b"1" + padding)
    for client in away:
        client.connect(clean=False)
        for number in range(1, kept + 1):
            assert int(client.message().payload) == number
        client.nothing()

    def arrives() -> bool:
        publish()
        names = [client.client_id for client in away]
        return ClientSession.objects.filter(client_id__in=names, next_seq__gt=kept + 1).count() == 2

    wait_until(arrives, 60, "room in the queues")
    for client in away:
        client.messages_until(b"%d" % sent + padding)


# What an account uses of a gateway is seen


def used(account: Account, name: str) -> int:
    return limit_use([account.user])[account.user.id][name].used


def test_subscriptions_are_seen_as_long_as_they_are_there(
    little: Stack, account: Account, outsider: Account, ended: ExitStack
) -> None:
    """Of connected clients and of sessions that are away; on the gateway that has the most."""
    token = account.device_token
    away, there = make(little, account, "away"), make(little, account, "there", V5)
    ended.callback(there.vanish)
    ended.callback(away.vanish)
    away.connect(clean=False)
    there.connect()
    for client, number in ((away, 3), (there, 4)):
        wanted = [
            Subscription(f"{token}/{client.client_id}-{n}/+", 1, False, False, 0) for n in range(number)
        ]
        assert client.subscribe_all(wanted).codes == [1] * number
    away.disconnect()
    wait_until(lambda: used(account, "subscriptions") == 7, 60, "what both have")
    assert used(outsider, "subscriptions") == 0
    second = little.another()
    second.ensure("ingest")
    try:
        elsewhere = make(second, account, "elsewhere")
        ended.callback(elsewhere.vanish)
        elsewhere.connect()
        wanted = [Subscription(f"{token}/more-{n}/+", 1, False, False, 0) for n in range(9)]
        assert elsewhere.subscribe_all(wanted).codes == [1] * 9
        most = 3 + 9  # it knows the session that is away, too
        wait_until(lambda: used(account, "subscriptions") == most, 60, "the gateway with more of them")
        second.kill("ingest")
        wait_until(lambda: used(account, "subscriptions") == 7, 60, "the one that lives")
    finally:
        second.stop()
    there.unsubscribe(f"{token}/there-0/+")
    wait_until(lambda: used(account, "subscriptions") == 6, 60, "one less")
    away.connect()  # which ends its session
    there.disconnect()
    wait_until(lambda: not used(account, "subscriptions"), 60, "none")
    assert GatewayUse.objects.filter(user=account.user).count() == 1  # of the one that was killed


def test_what_clients_leave_unread_is_seen_until_they_read_it(
    little: Stack, account: Account, outsider: Account, ended: ExitStack
) -> None:
    """What waits for an acknowledgement in memory."""
    slow, sender = make(little, account, "slow", V5), make(little, account, "sender")
    for client in (slow, sender):
        ended.callback(client.vanish)
    slow.connect(properties={0x21: 1})  # Receive Maximum
    sender.connect()
    topic = f"{account.device_token}/d/subscribe"
    slow.subscribe(topic, 1)
    for _ in range(11):
        sender.publish(topic, b" " * 50_000, 1)
    least, most = 10 * 50_000 - UNREAD // 100, 11 * 51_000
    wait_until(lambda: least < used(account, "unread") < most, 60, "what it leaves unread")
    assert used(outsider, "unread") == 0
    for _ in range(11):
        slow.message()
    wait_until(lambda: not used(account, "unread"), 60, "nothing")
