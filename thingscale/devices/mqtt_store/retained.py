"""Retained messages."""

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import psycopg

from thingscale.lib import own_topics


class Retain(NamedTuple):
    account: int
    topic: str
    payload: bytes  # empty: it is deleted
    qos: int
    properties: bytes
    at: datetime
    expires_at: datetime | None


class RetainedMessage(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    properties: bytes
    at: int  # microseconds since 1970 UTC
    expires_at: int | None


def retain(cursor: psycopg.Cursor, messages: Iterable[Retain]) -> None:
    """In the order in which they came; the last one of a topic counts."""
    last = {(each.account, each.topic): each for each in messages}
    rows = [last[key] for key in sorted(last)]
    kept = [row for row in rows if row.payload]
    cleared = [row for row in rows if not row.payload]
    if cleared:
        cursor.execute(
            """DELETE FROM mqtt_retained r USING unnest(%s::bigint[], %s::text[]) AS k (account, topic)
            WHERE r.account_id = k.account AND r.topic = k.topic""",
            [[row.account for row in cleared], [row.topic for row in cleared]],
        )
    if kept:
        cursor.execute(
            """INSERT INTO mqtt_retained (account_id, topic, payload, qos, properties, at, expires_at)
            SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bytea[], %s::smallint[], %s::bytea[],
                %s::timestamptz[], %s::timestamptz[])
            ON CONFLICT (account_id, topic) DO UPDATE SET payload = excluded.payload, qos = excluded.qos,
                properties = excluded.properties, at = excluded.at, expires_at = excluded.expires_at""",
            [list(column) for column in zip(*kept, strict=True)],
            prepare=True,
        )


def existing_topics(cursor: psycopg.Cursor, topics: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """Returns those that have a retained message."""
    accounts, names = map(list, zip(*topics, strict=True))
    cursor.execute(
        """SELECT account_id, topic FROM mqtt_retained
        JOIN unnest(%s::bigint[], %s::text[]) AS k (account, name)
            ON account_id = k.account AND topic = k.name""",
        [accounts, names],
    )
    return set(cursor.fetchall())


def accounts_with_retained(cursor: psycopg.Cursor, accounts: Collection[int]) -> set[int]:
    """Returns those of these accounts that have retained messages. Most accounts have none."""
    if not accounts:
        return set()
    cursor.execute(
        """SELECT k.account FROM unnest(%s::bigint[]) AS k (account)
        WHERE EXISTS (SELECT FROM mqtt_retained r WHERE r.account_id = k.account)""",
        [sorted(accounts)],
        prepare=True,
    )
    return {account for (account,) in cursor.fetchall()}


def read_retained(
    cursor: psycopg.Cursor, account: int, topic_filter: str, after: str, rows: int
) -> list[RetainedMessage]:
    """The messages whose topics match, in the order of their topics, behind the topic `after`."""
    levels = topic_filter.split("/")
    conditions, parameters = (
        # Separate conditions, which the planner can estimate: else it sorts all of the account for each page.
        ["account_id = %s", "topic > %s", "(expires_at IS NULL OR expires_at > now())"],
        [account, after],
    )
    if "+" not in levels and levels[-1] != "#":
        conditions, parameters = [*conditions, "topic = %s"], [*parameters, topic_filter]
    else:
        fixed = levels[: next(n for n, level in enumerate(levels) if level in {"+", "#"})]
        if fixed:
            prefix = "/".join(fixed)
            conditions.append("topic >= %s AND topic < %s")
            parameters += [prefix, prefix + "0"]  # which comes after the slash
        else:  # a wildcard stands for no topic without a token
            conditions.append("NOT (topic >= %s AND topic < %s)")
            parameters += [own_topics.PREFIX, own_topics.BEHIND_PREFIX]
        if len(levels) > 1 and levels[1] not in {"+", "#"}:
            conditions.append("split_part(topic, '/', 2) = %s")  # as the index has it
            parameters.append(levels[1])
        if levels != ["#"]:
            conditions.append("topic ~ %s")
            parameters.append(pattern(levels))
    cursor.execute(
        f"""SELECT topic, payload, qos, properties, (extract(epoch FROM at) * 1000000)::bigint,
            (extract(epoch FROM expires_at) * 1000000)::bigint
        FROM mqtt_retained
        WHERE {" AND ".join(conditions)} ORDER BY topic LIMIT %s""",  # noqa: S608  the conditions are ours
        [*parameters, rows],
    )
    return [RetainedMessage(*row) for row in cursor.fetchall()]


def pattern(levels: Sequence[str]) -> str:
    """A topic filter as a regular expression of PostgreSQL."""
    *parents, last = levels
    parts = ["[^/]*" if level == "+" else _quoted(level) for level in parents]
    if last != "#":
        parts.append("[^/]*" if last == "+" else _quoted(last))
        return f"^{'/'.join(parts)}$"
    return f"^{'/'.join(parts)}(/.*)?$" if parts else "^.*$"


def _quoted(text: str) -> str:
    return re.sub(r"([^\w])", r"\\\1", text)
