"""Each text of the table in devices/fields.py, at each door: no text is named a second time here."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, models
from django.test import Client
from support import Account

from api.v2.schemas import COMPONENTS
from thingscale.accounts.models import User
from thingscale.devices import writer
from thingscale.devices.actions import create_device
from thingscale.devices.fields import TEXTS, DeviceText
from thingscale.devices.models import Device
from thingscale.lib import csv_file
from thingscale.provisioning import device_csv

each_text = pytest.mark.parametrize("text", TEXTS, ids=[text.name for text in TEXTS])


def signed_in(account: Account) -> Client:
    client = Client()
    client.force_login(account.user)
    return client


def rest(method: str, account: Account, body: Any = None) -> Any:
    return Client().generic(
        method,
        "/v2/device/d1",
        body,
        content_type="application/json",
        headers={"X-APITOKEN": account.api_token},
    )


def uploaded(client: Client, text: DeviceText, cell: str) -> Any:
    table = "".join(csv_file.write([(device_csv.KEY, text.name), ("d1", cell)]))
    look = client.post("/devices/import/", {"file": SimpleUploadedFile("d.csv", table.encode())})
    carried = look.context["carried"]
    return client.post("/devices/import/", {"carried": carried}) if carried else look


def downloaded(client: Client, path: str) -> list[csv_file.CsvRow]:
    return csv_file.read(client.get(f"/devices/{path}").getvalue(), device_csv.COLUMNS, device_csv.KEY)


def test_the_model_has_each_text_and_no_other_column_for_one() -> None:
    columns = {
        field.name: field.max_length
        for field in Device._meta.get_fields()
        if isinstance(field, models.CharField) and field.name != device_csv.KEY
    }
    assert columns == {text.name: text.max_length for text in TEXTS}


@each_text
def test_rest_takes_and_shows_it_and_names_one_that_is_too_long(account: Account, text: DeviceText) -> None:
    account.device("d1", None)
    longest = "x" * text.max_length
    assert rest("PUT", account, f'{{"{text.name}": "{longest}"}}').status_code == 200
    assert rest("GET", account).json()[0][text.name] == longest
    refused = rest("PUT", account, f'{{"{text.name}": "{longest}x"}}')
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith(f"{text.name}: ")


@each_text
def test_openapi_has_it(text: DeviceText) -> None:
    assert COMPONENTS["DeviceFields"]["properties"][text.name]["maxLength"] == text.max_length
    assert text.name in COMPONENTS["Device"]["properties"]


@each_text
def test_the_console_takes_and_shows_it(account: Account, outsider: Account, text: DeviceText) -> None:
    device = account.device("d1", None)
    client = signed_in(account)
    page = f"/devices/{device.pk}/"
    form = client.get(f"{page}edit/").context["form"]
    assert (form.fields[text.name].max_length, form[text.name].label) == (text.max_length, text.label)
    assert client.post(f"{page}edit/", {text.name: "Some words"}).status_code == 302
    assert "Some words" in client.get(page).text
    assert ("Some words" in client.get("/devices/").text) == text.listed
    assert signed_in(outsider).get(page).status_code == 404


@each_text
def test_the_list_finds_what_it_shows(account: Account, outsider: Account, text: DeviceText) -> None:
    create_device(account.user, "d1", **{text.name: "Some words"})
    create_device(outsider.user, "d2", **{text.name: "Some words"})
    found = Device.objects.for_account(account.user).search("some WORD")
    assert [device.device_id for device in found] == ["d1"] * text.listed
    placeholder = signed_in(account).get("/devices/").text.split('placeholder="')[1].split('"')[0]
    assert (text.label.lower() in placeholder) == text.listed


@each_text
def test_csv_carries_it_in_and_out(account: Account, text: DeviceText) -> None:
    client = signed_in(account)
    assert uploaded(client, text, "=a, b").status_code == 302
    assert getattr(Device.objects.get(), text.name) == "=a, b"
    exported = csv_file.read(client.get("/devices/export/").getvalue(), device_csv.COLUMNS, device_csv.KEY)
    assert [row.cells[text.name] for row in exported] == ["=a, b"]
    example = csv_file.read(
        client.get("/devices/import/example.csv").getvalue(), device_csv.COLUMNS, device_csv.KEY
    )
    assert example[0].cells[text.name] == text.example
    assert f"<code>{text.name}</code>" in client.get("/devices/import/").text


@each_text
def test_csv_names_one_that_is_too_long(account: Account, text: DeviceText) -> None:
    page = uploaded(signed_in(account), text, "x" * (text.max_length + 1)).text
    assert f"This has {text.max_length + 1} characters, of at most {text.max_length}." in page
    assert not Device.objects.exists()


@each_text
def test_the_operator_sees_it(account: Account, outsider: Account, text: DeviceText) -> None:
    device = create_device(outsider.user, "d1", **{text.name: "Some words"})
    User.objects.filter(pk=account.user.pk).update(is_staff=True, is_superuser=True)
    path = f"/admin/devices/device/{device.pk}/change/"
    assert "Some words" in signed_in(account).get(path).text
    assert "Some words" not in signed_in(outsider).get(path, follow=True).text


def test_a_device_that_made_itself_known_has_empty_texts(account: Account) -> None:
    connection.ensure_connection()
    with connection.connection.cursor() as cursor:
        writer.create(cursor, [(account.user.id, "d1")])
    device = Device.objects.get()
    assert [getattr(device, text.name) for text in TEXTS] == [""] * len(TEXTS)
