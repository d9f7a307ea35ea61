"""Devices as CSV, in and out."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from support import Account

from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.devices.fields import TEXTS
from thingscale.devices.models import Device
from thingscale.lib import csv_file
from thingscale.provisioning import device_csv
from thingscale.provisioning.actions import import_devices
from thingscale.streams.actions.channels import create_channel
from thingscale.streams.models import Channel

SignIn = Callable[[Account], Client]
HEAD = ",".join(device_csv.COLUMNS)


def upload(client: Client, text: str | bytes) -> Any:
    content = text.encode() if isinstance(text, str) else text
    return client.post("/devices/import/", {"file": SimpleUploadedFile("d.csv", content)})


def carried(text: str) -> str | None:
    match = re.search(r'name="carried" value="([^"]+)"', text)
    return unescape(match[1]) if match else None


def confirm(client: Client, preview: str) -> Any:
    return client.post("/devices/import/", {"carried": carried(preview)}, follow=True)


def export(client: Client, query: str = "") -> str:
    answer = client.get(f"/devices/export/{query}")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return answer.getvalue().decode()


def test_a_look_first_then_the_import(account: Account, signed_in: SignIn) -> None:
    account.channel(7)
    create_device(account.user, "d1", location="Cellar")
    client = signed_in(account)
    text = upload(client, "device_id,channel\nd1,7\nd2,\n").text
    assert "<dt>Devices made</dt><dd>1</dd><dt>Devices changed</dt><dd>1</dd>" in text
    assert not Device.objects.filter(device_id="d2").exists()
    answer = confirm(client, text)
    assert "1 device made, 1 changed" in answer.text
    devices = Device.objects.for_account(account.user).order_by("device_id")
    rows = devices.values_list("device_id", "mapped_channel__number", "location", "enabled")
    assert list(rows) == [("d1", 7, "Cellar", True), ("d2", None, "", True)]


def test_pasting_and_errors(account: Account, signed_in: SignIn) -> None:
    pasted = "device_id,enabled,channel\nd1,maybe,\n,true,\nd3,true,9.9\n"
    text = signed_in(account).post("/devices/import/", {"text": pasted}).text
    assert "3 things to mend first" in text
    assert "Write true or false." in text
    assert "A channel is a whole number from 0 to 2147483647." in text
    assert "d3,true,9.9" in text  # to be mended in place
    assert carried(text) is None
    assert not Device.objects.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The submitted file is empty"),
        (b"device_id\n", "There is no device in it"),
        (b"name\nd1\n", "There is no column &#x27;name&#x27;"),
        (b"device_id\n\xff\n", "The file is not UTF-8"),
        (b'device_id\n"open\n', "read as CSV"),
        (b"device_id\n" + b"x\n" * 10_001, "at most 10000 rows"),
        (b"device_id\n" + b"x" * (5 * 2**20 + 1), "more than 5 MB"),
    ],
)
def test_a_file_that_can_not_be_read(
    account: Account, signed_in: SignIn, content: bytes, message: str
) -> None:
    text = upload(signed_in(account), content).text
    assert message in text
    assert carried(text) is None


def test_many_errors_are_counted(account: Account, signed_in: SignIn) -> None:
    text = upload(signed_in(account), "device_id\n" + "0\n" * 250).text
    assert "250 things to mend first" in text
    assert "And 150 more." in text


def test_what_was_seen_is_checked_again(account: Account, signed_in: SignIn) -> None:
    """A channel that was there then, and would now be made, was not shown."""
    channel = account.channel(7)
    client = signed_in(account)
    preview = upload(client, "device_id,channel\nd1,7\n").text
    assert "Channels made" not in preview
    channel.delete()
    preview = confirm(client, preview).text
    assert "<dt>Channels made</dt><dd>1</dd>" in preview
    assert not Device.objects.exists()
    assert "1 device made, 0 changed. 1 channel made." in confirm(client, preview).text
    assert Device.objects.get().mapped_channel == Channel.objects.get(number=7)


def test_a_preview_is_good_for_its_user_and_for_half_an_hour(
    account: Account, outsider: Account, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = signed_in(account)
    preview = upload(client, "device_id\nd1\n").text
    assert "This preview is older" in confirm(signed_in(outsider), preview).text
    monkeypatch.setattr("console.forms.devices_import.CARRIED_SECONDS", -1)
    assert "This preview is older" in confirm(client, preview).text
    assert "This preview is older" in client.post("/devices/import/", {"carried": "made up"}).text
    assert not Device.objects.exists()


def test_what_can_not_be_carried_is_refused(
    account: Account, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.forms.devices_import.MAX_CARRIED", 20)
    text = upload(signed_in(account), "device_id\nd1\n").text
    assert "The table is too large: import it in parts." in text
    assert carried(text) is None


def test_there_and_back(account: Account, outsider: Account, signed_in: SignIn) -> None:
    account.channel(7)
    outsider.channel(7)
    for n, text in enumerate(['quo"te', "com,ma", "two\r\nlines", "ünï", " blank ", "=1+1"]):
        device = account.device(f"d{n}", 7 if n % 2 else None)
        Device.objects.filter(pk=device.pk).update(description=text, enabled=n % 3 > 0, location=text)
    exported = export(signed_in(account))
    assert exported.startswith(HEAD)
    client = signed_in(outsider)
    confirm(client, upload(client, exported).text)
    assert export(client) == exported


def test_a_thousand_devices(account: Account, signed_in: SignIn) -> None:
    account.channel(7)
    rows = "".join(f"sensor-{n:04},true,7\r\n" for n in range(1000))
    client = signed_in(account)
    preview = upload(client, "device_id,enabled,channel\r\n" + rows).text
    assert "<dt>Devices made</dt><dd>1,000</dd>" in preview
    assert "1,000 devices made, 0 changed" in confirm(client, preview).text
    assert Device.objects.for_account(account.user).filter(mapped_channel__number=7).count() == 1000


def test_export_follows_the_filter_and_the_user(
    account: Account, outsider: Account, signed_in: SignIn
) -> None:
    account.device("roof-1")
    account.device("roof-2", None)
    account.device("hall-1", None)
    outsider.device("roof-9", None)
    head, row = export(signed_in(account), "?q=roof&filter=unmapped").splitlines()
    assert (head, row.rstrip(",")) == (HEAD, "roof-2,,true")


def test_the_example_can_be_imported(account: Account, signed_in: SignIn) -> None:
    client = signed_in(account)
    example = client.get("/devices/import/example.csv").getvalue()
    assert "<dt>Devices made</dt><dd>2</dd>" in upload(client, example).text


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("8.98E+18;a", "format the column as text"),
        ("8,98E+18;a", "format the column as text"),
        ("-1E+5;a", "format the column as text"),
        ("d1 ;a", "white space"),
        ("d1\xa0;a", "white space"),
        ("\ufeffd1;a", "white space"),
    ],
)
def test_r17_what_a_spreadsheet_did_to_an_id_is_named(account: Account, line: str, part: str) -> None:
    rows = csv_file.read(
        f"sep=;\r\ndevice_id;description;;\r\nd0;b;;\r\n{line};;\r\n".encode(),
        device_csv.COLUMNS,
        device_csv.KEY,
    )
    report = import_devices(account.user, rows)
    assert [(fault.line, fault.field) for fault in report.errors] == [(4, "device_id")]
    assert part in report.errors[0].message
    assert not Device.objects.exists()


@pytest.mark.parametrize(
    ("true", "false"), [("WAHR", "FALSCH"), ("VRAI", "FAUX"), ("Verdadero", "Falso"), ("ИСТИНА", "ЛОЖЬ")]
)
def test_r17_true_and_false_in_other_languages(account: Account, true: str, false: str) -> None:
    rows = csv_file.read(
        f"device_id;enabled\nd1;{true}\nd2;{false}\n".encode(), device_csv.COLUMNS, device_csv.KEY
    )
    assert import_devices(account.user, rows).errors == []
    assert dict(Device.objects.values_list("device_id", "enabled")) == {"d1": True, "d2": False}


def test_r2_a_device_whose_name_is_older_is_changed_by_an_import(account: Account) -> None:
    Device.objects.create(user=account.user, device_id="old ")
    rows = csv_file.read(b"device_id,description\nold ,changed\n", device_csv.COLUMNS, device_csv.KEY)
    assert import_devices(account.user, rows).errors == []
    assert list(Device.objects.values_list("device_id", "description")) == [("old ", "changed")]


def test_c14_the_look_says_which_devices_lose_their_channel(account: Account, signed_in: SignIn) -> None:
    for name in ("d1", "d2", "d3"):
        account.device(name, 0)
    account.device("d4", None)
    client = signed_in(account)
    look = client.post("/devices/import/", {"text": "device_id,channel\nd1,\nd2,\nd3,0\nd4,\nd5,"}).text
    assert "no channel for 2 devices that have one now" in look
    assert "lose their channel" not in client.post("/devices/import/", {"text": "device_id\nd1"}).text


@pytest.mark.parametrize("field", [text.name for text in TEXTS])
def test_a_nul_character_is_named_with_its_line_and_field(account: Account, field: str) -> None:
    rows = csv_file.read(
        f"device_id,{field}\nd0,good\nd1,a\0b\n".encode(), device_csv.COLUMNS, device_csv.KEY
    )
    faults = import_devices(account.user, rows).errors
    assert faults == [device_csv.Fault(3, field, "This has a NUL character.")]
    assert not Device.objects.exists()


def channels(account: Account) -> dict[str, tuple[int, str]]:
    """By device id: number and name of its channel."""
    devices = Device.objects.for_account(account.user).exclude(mapped_channel=None)
    rows = devices.values_list("device_id", "mapped_channel__number", "mapped_channel__name")
    return {device: (number, name) for device, number, name in rows}


def report(account: Account, text: str) -> device_csv.Report:
    rows = csv_file.read(text.encode(), device_csv.COLUMNS, device_csv.KEY)
    return import_devices(account.user, rows)


def test_the_channels_that_a_table_names_are_made(account: Account, signed_in: SignIn) -> None:
    create_channel(account.user, 3, name="Roof")
    names = ("7", "7", "Roof", "Hall", "Hall", "own", "OWN", "12 · Boiler", "Boiler")
    table = "device_id,channel\n" + "".join(f"d{n},{name}\n" for n, name in enumerate(names, 1))
    client = signed_in(account)
    preview = upload(client, table).text
    assert "<dt>Channels made</dt><dd>5</dd>" in preview
    for title in ("7", "Hall", "d6", "d7", "12 · Boiler"):
        assert f'<b class="break">{title}</b>' in preview
    assert not Channel.objects.exclude(number=3).exists()
    assert "9 devices made, 0 changed. 5 channels made." in confirm(client, preview).text
    assert channels(account) == {
        **{"d1": (7, ""), "d2": (7, ""), "d3": (3, "Roof"), "d4": (13, "Hall"), "d5": (13, "Hall")},
        **{"d6": (14, "d6"), "d7": (15, "d7"), "d8": (12, "Boiler"), "d9": (12, "Boiler")},
    }
    again = report(account, table)
    assert (again.created, again.updated, again.channels) == (0, 9, [])
    assert len(channels(account)) == 9
    assert Channel.objects.count() == 6


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("2147483648", "from 0 to 2147483647"),
        ("9" * 40, "from 0 to 2147483647"),
        ("-1", "from 0 to 2147483647"),
        ("7.0", "from 0 to 2147483647"),
        ("1e5", "from 0 to 2147483647"),
        ("x" * 201, "at most 200 characters"),
        ("a\0b", "no control characters"),
        ("Twice", "You have 2 channels called Twice: give the number."),
    ],
)
def test_what_names_no_channel(account: Account, cell: str, said: str) -> None:
    for number in (1, 2):
        create_channel(account.user, number, name="Twice")
    (fault,) = report(account, f"device_id,channel\nd1,5\nd2,{cell}\n").errors
    assert (fault.line, fault.field) == (3, "channel")
    assert said in fault.message
    assert not Device.objects.exists()
    assert Channel.objects.count() == 2


def test_more_channels_than_there_may_be(account: Account) -> None:
    """All or nothing, and the lines for which there is no room are named."""
    User.objects.filter(pk=account.user.pk).update(max_channels=2)
    table = "device_id,channel\nd1,5\nd2,own\nd3,Roof\nd4,Roof\n"
    errors = report(account, table).errors
    assert [(fault.line, fault.field) for fault in errors] == [(4, "channel"), (5, "channel")]
    assert "You can have 2 channels" in errors[0].message
    assert not Device.objects.exists()
    assert not Channel.objects.exists()
    User.objects.filter(pk=account.user.pk).update(max_channels=3)
    assert report(account, table).written


def test_own_is_kept_by_who_has_it(account: Account) -> None:
    """Also where somebody has given the channel another name since. Who shares one gets another."""
    account.device("d1", 4)
    Channel.objects.update(name="Kitchen")
    for name in ("d2", "d3"):
        account.device(name, 5)
    assert report(account, "device_id,channel\nd1,own\nd2,own\n").channels == ["d2"]
    assert channels(account) == {"d1": (4, "Kitchen"), "d2": (6, "d2"), "d3": (5, "")}


def test_a_thousand_channels_of_their_own(account: Account, django_assert_max_num_queries: Any) -> None:
    table = "device_id,channel\n" + "".join(f"d{n:04},own\n" for n in range(1000))
    with django_assert_max_num_queries(30):
        assert len(report(account, table).channels) == 1000
    assert set(channels(account).values()) == {(n, f"d{n:04}") for n in range(1000)}


def test_channels_of_another_account_are_not_meant(account: Account, outsider: Account) -> None:
    create_channel(outsider.user, 7, name="Roof")
    report(account, "device_id,channel\nd1,7\nd2,Roof\n")
    assert channels(account) == {"d1": (7, ""), "d2": (8, "Roof")}
    assert not channels(outsider)
