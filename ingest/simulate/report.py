"""What was sent, acknowledged and refused, and what is found stored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.db import connection

from ingest.simulate.tally import Tally


class StoredByDevice(NamedTuple):
    """In the database, of one device."""

    rows: int
    distinct: int
    state: int  # number of the state that it shows; 0: none


NOTHING = StoredByDevice(0, 0, 0)


class Findings(NamedTuple):
    """`stored` datapoints; `states` devices that show the state they sent last."""

    stored: int
    states: int
    missing: int
    doubled: int

    @property
    def good(self) -> bool:
        return not self.missing and not self.doubled


def find(user: int, run: str) -> dict[str, StoredByDevice]:
    """By device id. No two values of a simulated device are the same, so one that is there twice was stored
    twice."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT v.device_id, count(d.id), count(DISTINCT d.value),
                coalesce((v.state ->> 'count')::int, 0)
            FROM devices_device v
            LEFT JOIN datapoint d ON d.device = v.id AND d.channel = v.mapped_channel_id
                AND d.at >= v.created_at - interval '1 hour'
            WHERE v.user_id = %s AND v.device_id LIKE %s GROUP BY v.id""",
            [user, f"sim-{run}-%"],
        )
        return {device_id: StoredByDevice(*numbers) for device_id, *numbers in cursor.fetchall()}


def compare(tallies: Sequence[Tally], found: Mapping[str, StoredByDevice]) -> Findings:
    """A device whose last messages got no answer may have more stored than acknowledged, but never less."""
    stored = states = missing = doubled = 0
    for tally in tallies:
        rows, distinct, state = found.get(tally.device_id, NOTHING)
        if tally.stateful:
            shown = state >= tally.acknowledged
            states += shown
            missing += not shown
            continue
        stored += distinct
        doubled += rows - distinct
        missing += max(0, tally.acknowledged - distinct)
    return Findings(stored, states, missing, doubled)


def progress_line(seconds: float, tallies: Sequence[Tally], last_sent: int) -> str:
    sent, refused = sum(t.sent for t in tallies), sum(t.refused.total() for t in tallies)
    acknowledged = sum(t.acknowledged for t in tallies)
    return (
        f"{seconds:5.0f} s  sent {sent:,}  acknowledged {acknowledged:,}  refused {refused:,}"
        f"  {sent - last_sent:,}/s"
    )


def render(tallies: Sequence[Tally], findings: Findings, seconds: float) -> str:
    lines = [*_sent(tallies, seconds), f"found stored  {findings.stored:,}"]
    stateful = [tally for tally in tallies if tally.stateful]
    if stateful:
        states = sum(tally.acknowledged for tally in stateful)
        lines.append(
            f"              and the latest state of {findings.states:,} of {len(stateful):,} devices,"
            f" whose {states:,} acknowledged messages are states"
        )
    if findings.good:
        return "\n".join([*lines, "Nothing that was acknowledged is missing, and nothing is stored twice."])
    return "\n".join([*lines, f"MISSING {findings.missing:,}, STORED TWICE {findings.doubled:,}"])


def _sent(tallies: Sequence[Tally], seconds: float) -> list[str]:
    sent = sum(tally.sent for tally in tallies)
    refused: Counter[str] = sum((tally.refused for tally in tallies), Counter())
    return [
        f"sent          {sent:,} by {len(tallies):,} devices in {seconds:.1f} s"
        f" ({sent / max(seconds, 0.001):,.1f}/s)",
        f"sent again    {sum(tally.repeated for tally in tallies):,}",
        f"acknowledged  {sum(tally.acknowledged for tally in tallies):,}",
        f"refused       {refused.total():,}",
        *(f"              {count:,} {code}" for code, count in refused.most_common()),
        f"unanswered    {sum(tally.sent - tally.answered for tally in tallies if tally.acked):,}",
    ]
