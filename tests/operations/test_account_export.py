"""An account's files, and the end of an account."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from support import Account

from thingscale.accounts.models import User
from thingscale.lib.clock import to_us
from thingscale.lib.points import Points
from thingscale.operations.account_export import KINDS, MANIFEST
from thingscale.streams.actions.datapoints import store_points

# Secrets, what another file says, and what the platform keeps for itself.
LEFT_OUT = {
    *("LogEntry", "TOTPDevice", "StaticDevice", "Token", "Authenticator", "WrongCode", "Session"),
    *("LimitWarning", "DeletedDevice", "MinuteCount", "ClientSession", "Published", "DurableSession"),
    *("GatewayUse", "MqttSession", "LastIntakeNumber", "LastNumber", "Delivery", "ReceiverPace"),
    *("DismissedSuggestion", "Host"),
}
JANUARY, MARCH = datetime(2026, 1, 31, 23, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)


def test_each_kind_that_belongs_to_an_account_is_thought_of() -> None:
    owned = {
        model.__name__
        for model in apps.get_models()
        if any(field.related_model is User for field in model._meta.concrete_fields)
    }
    exported = {model.__name__ for model, _ in KINDS.values()}
    assert owned - LEFT_OUT == exported - {"User", "Tag", "HeldMessage"}
    assert not exported & LEFT_OUT


def test_the_files_of_an_account(account: Account, outsider: Account, tmp_path: Path) -> None:
    outsider.device("theirs")
    store_points(outsider.channel(0), Points.of([(None, b"666", to_us(MARCH))]))
    account.device("d1")
    channel = account.channel(0)
    points = [("a", b'{"x":1}', to_us(JANUARY)), (None, b"2", to_us(MARCH)), (None, b"3", to_us(MARCH) + 1)]
    store_points(channel, Points.of(points))
    target = tmp_path / "files"
    call_command("export_account", account.user_id, str(target))
    told = json.loads((target / MANIFEST).read_text())
    found = {name: rows for name, rows in told["rows"].items() if name.startswith("datapoints")}
    assert found == {"datapoints/0/2026-01.ndjson.gz": 1, "datapoints/0/2026-03.ndjson.gz": 2}
    lines = gzip.decompress((target / "datapoints/0/2026-01.ndjson.gz").read_bytes()).splitlines()
    assert json.loads(lines[0])["value"] == {"x": 1}
    for kind, field, value in (("devices", "device_id", "d1"), ("tags", "name", "a")):
        (line,) = (target / f"{kind}.ndjson").read_text().splitlines()
        assert json.loads(line)[field] == value
    everything = b"".join(path.read_bytes() for path in target.glob("*.ndjson"))
    user = account.user
    for secret in (account.device_token, account.api_token, user.password, "theirs", outsider.user.email):
        assert secret.encode() not in everything
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(CommandError, match="is there already"):
        call_command("export_account", account.user_id, str(target))


def test_an_account_is_closed_by_the_one_that_is_meant(account: Account, outsider: Account) -> None:
    for user_id, email, sentence in (
        ("U999999", "owner@example.com", "There is no account U999999"),
        (account.user_id, "outsider@example.com", "has another e-mail address"),
    ):
        with pytest.raises(CommandError, match=sentence):
            call_command("delete_account", user_id, "--email", email)
    call_command("delete_account", account.user_id, "--email", "owner@example.com")
    account.user.refresh_from_db()
    outsider.user.refresh_from_db()
    assert account.user.closed_at
    assert not outsider.user.closed_at
    with pytest.raises(CommandError, match="is closed already"):
        call_command("delete_account", account.user_id, "--email", "owner@example.com")
