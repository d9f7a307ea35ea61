"""Parameters for tests: the versions of MQTT."""

import pytest

from ingest.mqtt.packets import V5, V31, V311

_V31, _V311, _V5 = (pytest.param(v, id=name) for v, name in ((V31, "3.1"), (V311, "3.1.1"), (V5, "5")))
ALL_VERSIONS = pytest.mark.parametrize("version", [_V31, _V311, _V5])
NEW_VERSIONS = pytest.mark.parametrize("version", [_V311, _V5])  # MQTT 3.1 is lax, or says nothing
VERSION_5 = pytest.mark.parametrize("version", [_V5])
VERSION_3 = pytest.mark.parametrize("version", [_V311])
