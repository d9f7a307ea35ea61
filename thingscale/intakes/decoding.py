"""What an intake makes of a payload, where somebody tries it out. Nothing is stored."""

from collections.abc import Mapping
from typing import Any

from thingscale.intakes.formats import influx, mapped, otlp, prometheus
from thingscale.intakes.formats.mapped import BadMapping
from thingscale.intakes.formats.mapping import Mapping as CompiledMapping
from thingscale.intakes.formats.readings import BadBody, Reading
from thingscale.intakes.models import Intake
from thingscale.intakes.presets import presets
from thingscale.lib import json_rules
from thingscale.lib.reasons import Reason

MAX_TRIED = 256 * 1024  # bytes of a payload


def mapping_of(preset: str, mapping: Any) -> CompiledMapping:
    """Of an intake of the format `mapped`. Raises BadMapping for one that this release does not know."""
    if mapping is not None:
        return mapped.compile(mapping)
    if preset not in presets():
        raise BadMapping("", f"of the preset {preset} is none of this release: choose another one")
    return presets()[preset].compiled


def readings_of(
    intake: Intake, topic: str | None, headers: Mapping[str, str], body: bytes, now: int
) -> list[Reading]:
    """Names of headers are in lower case. Raises BadBody."""
    if len(body) > MAX_TRIED:
        raise BadBody(Reason.TOO_LARGE, f"A payload to try has at most {MAX_TRIED // 1024} KiB.")
    content_type = headers.get("content-type", "")
    match intake.format:
        case Intake.Format.INFLUX:
            return influx.decode(body, now, **influx_options(intake.options))
        case Intake.Format.PROMETHEUS:
            message = (
                prometheus.Message.V2 if prometheus.Message.V2 in content_type else prometheus.Message.V1
            )
            return prometheus.decode(body, now, message).readings
        case Intake.Format.OTLP:
            as_json = "json" in content_type or json_rules.trimmed(body)[:1] == b"{"
            return otlp.decode(body, now, as_json=as_json).readings
    try:
        mapping = mapping_of(intake.preset, intake.mapping)
    except BadMapping as bad:
        raise BadBody(Reason.BAD_PARAMETER, str(bad)) from None
    return mapping.decode(topic, headers, body, now)


def influx_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """As influx.decode() takes them; what is not there is as it has it."""
    return {name: options[name] for name in ("precision", "device_tags") if name in options}
