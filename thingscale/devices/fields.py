"""The texts that an account keeps with a device: one line for each, from which every door takes it.

REST (api/v2/serializers.py, and schemas.py for OpenAPI), the console's form, page, list and search, CSV
import and export (provisioning/device_csv.py) go through this table. A new text needs a line here, its
column in Device with a migration, its row in docs/contract.md, and `make openapi`;
tests/test_device_fields.py then tries it at each door.
"""

from typing import Any, NamedTuple

from django.utils.translation import gettext_lazy as _


class DeviceText(NamedTuple):
    name: str  # in the model, in REST, and of the CSV column
    label: Any  # in the console
    max_length: int
    example: str  # in the CSV file to fill in
    listed: bool = False  # in the console's list of devices, whose search then looks into it


DESCRIPTION = DeviceText("description", _("Description"), 1000, "Freezer, left", listed=True)
FACTS = (
    DeviceText("device_type", _("Type"), 200, "thermometer", listed=True),
    DeviceText("location", _("Location"), 200, "Hall 1", listed=True),
    DeviceText("manufacturer", _("Manufacturer"), 200, "Acme"),
)
TEXTS = (DESCRIPTION, *FACTS)
