"""Which events make sense."""

from typing import Any

import pytest

from thingscale.events.models import Event
from thingscale.events.validation import MAX_WINDOW, YEAR, check_event
from thingscale.lib.errors import ContractError

RANGE: dict[str, Any] = {"kind": "range", "threshold": "18..24"}
TREND: dict[str, Any] = {
    "kind": "trend",
    **{"operator": ">=", "threshold": "100", "window": 3600, "period": 86_400},
}
RATE: dict[str, Any] = {"kind": "rate", "threshold": "2", "window": 60}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"operator": ">"},
        {"operator": ">", "threshold": " -3.5 "},
        {"operator": ">", "threshold": "1e3"},
        {"operator": "!=", "threshold": "open"},
        {"operator": ">", "threshold": "30", "clear": "28"},
        {"operator": ">=", "threshold": "30", "clear": "30"},
        {"operator": "<", "threshold": "-30", "clear": "-28.5"},
        {"operator": ">", "threshold": "30", "window": 5, "grace": 5, "period": 1},  # of other kinds
        RANGE,
        {"kind": "range", "threshold": " -18.5 .. -2 "},
        RANGE | {"clear": "19..23"},
        RANGE | {"clear": "18..24"},
        RANGE | {"operator": "="},
        {"kind": "change"},
        {"kind": "change", "threshold": "0.5"},
        {"kind": "change", "threshold": "0.5", "clear": "0.1"},
        RATE,
        RATE | {"window": MAX_WINDOW, "clear": "1"},
        TREND,
        TREND | {"operator": "<=", "window": MAX_WINDOW, "period": YEAR},
        {"kind": "silence", "period": 10},
        {"kind": "silence", "period": YEAR, "grace": YEAR, "source": "temp", "threshold": "x", "clear": "x"},
        {"hold": YEAR, "min_interval": YEAR},
        {"no_data_after": 10},
        {"devices": "*"},
        {"devices": "?" * 64},
        {"devices": "roof-[1]*"},
        {"quiet_hours": "22:00-06:00"},
        {"quiet_hours": "00:00-23:59"},
        {"post_url": "https://example.com/hook?a=b"},
        {"notify_type": "none"},
    ],
)
def test_good(fields: dict[str, Any]) -> None:
    check_event(Event(**fields))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "other"}, "kind"),
        (TREND | {"operator": "="}, "operator"),
        (TREND | {"threshold": "full"}, "threshold"),
        (TREND | {"clear": "90"}, "clear"),
        (TREND | {"window": 0}, "window"),
        (TREND | {"period": 9}, "period"),
        ({"operator": "=="}, "operator"),
        ({"notify_type": "sms"}, "notify_type"),
        ({"repeat": ""}, "repeat"),
        ({"severity": "bad"}, "severity"),
        ({"operator": ">", "threshold": "open"}, "threshold"),
        ({"operator": ">", "threshold": "1e999"}, "threshold"),
        ({"operator": ">", "threshold": "30", "clear": "30.1"}, "clear"),
        ({"operator": ">", "threshold": "30", "clear": "low"}, "clear"),
        ({"operator": ">", "clear": "30"}, "clear"),
        ({"operator": "<=", "threshold": "30", "clear": "29"}, "clear"),
        ({"operator": "=", "threshold": "30", "clear": "29"}, "clear"),
        ({"kind": "range"}, "threshold"),
        ({"kind": "range", "threshold": "18"}, "threshold"),
        ({"kind": "range", "threshold": "18..18"}, "threshold"),
        ({"kind": "range", "threshold": "24..18"}, "threshold"),
        ({"kind": "range", "threshold": "a..b"}, "threshold"),
        ({"kind": "range", "threshold": "1..2..3"}, "threshold"),
        (RANGE | {"clear": "17..23"}, "clear"),
        (RANGE | {"clear": "20"}, "clear"),
        ({"kind": "change", "threshold": "much"}, "threshold"),
        ({"kind": "change", "threshold": "-1"}, "threshold"),
        ({"kind": "change", "clear": "1"}, "clear"),
        ({"kind": "change", "threshold": "1", "clear": "2"}, "clear"),
        (RATE | {"threshold": ""}, "threshold"),
        (RATE | {"window": 0}, "window"),
        (RATE | {"window": MAX_WINDOW + 1}, "window"),
        (RATE | {"clear": "-1"}, "clear"),
        ({"kind": "silence"}, "period"),
        ({"kind": "silence", "period": 9}, "period"),
        ({"kind": "silence", "period": 10, "grace": YEAR + 1}, "grace"),
        ({"hold": YEAR + 1}, "for"),
        ({"hold": -1}, "for"),
        ({"no_data_after": 9}, "no_data_after"),
        ({"min_interval": YEAR + 1}, "min_interval"),
        ({"devices": "a/b"}, "devices"),
        ({"devices": "a+"}, "devices"),
        ({"devices": " roof"}, "devices"),
        ({"devices": "0"}, "devices"),
        ({"devices": "*" * 65}, "devices"),
        ({"quiet_hours": "22-6"}, "quiet_hours"),
        ({"quiet_hours": "24:00-06:00"}, "quiet_hours"),
        ({"quiet_hours": "22:00-22:00"}, "quiet_hours"),
        ({"quiet_hours": "22:00-06:00 "}, "quiet_hours"),
        ({"post_url": "ftp://example.com"}, "post_url"),
        ({"post_url": "example.com"}, "post_url"),
    ],
)
def test_bad(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ContractError) as refused:
        check_event(Event(**fields))
    assert refused.value.code == "BAD_PARAMETER"
    assert refused.value.detail.startswith(f"{named}: ")
    assert refused.value.detail.endswith(".")
