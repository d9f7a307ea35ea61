"""Devices as CSV, in and out."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from support import Account

from thingscale.devices.actions import create_device
from thingscale.devices.fields import TEXTS
from thingscale.devices.models import Device
from thingscale.lib import csv_file
from thingscale.provisioning import device_csv
from thingscale.provisioning.actions import import_devices

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
    pasted = "device_id,enabled,channel\nd1,maybe,\n,true,\nd3,true,99\n"
    text = signed_in(account).post("/devices/import/", {"text": pasted}).text
    assert "3 things to mend first" in text
    assert "Write true or false." in text
    assert "You have no channel 99" in text
    assert "d3,true,99" in text  # to be mended in place
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
    channel = account.channel(7)
    client = signed_in(account)
    preview = upload(client, "device_id,channel\nd1,7\n").text
    channel.delete()
    assert "You have no channel 7" in confirm(client, preview).text
    assert not Device.objects.exists()


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
