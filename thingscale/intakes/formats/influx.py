"""InfluxDB's line protocol, as its releases 1.8 and 2 read it. Pure.

    measurement,tag=value,... field=value,... time

A measurement and its tags are a series: one tag names the device, the others join the measurement in the
order of their names, and that is the tag here (cpu/cpu=cpu0). The fields are an object, the value.

Many lines are read at once, in loops that run in C. Where one of them does not fit there, they are read again
one by one, which also finds the first bad one.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from math import isfinite
from typing import NamedTuple, NoReturn

import orjson

from thingscale.intakes.formats.readings import MAX_READINGS, BadBody, Reading, device_id_of, tag_of
from thingscale.lib import json_rules
from thingscale.lib.clock import MAX_AHEAD, OLDEST_DATAPOINT, utc_text
from thingscale.lib.json_rules import BadValue
from thingscale.lib.reasons import Reason

DEVICE_TAGS = ("host", "device", "entity_id")
# Nanoseconds, by the names of both releases and of their clients.
PRECISIONS = {
    "ns": 1,
    "us": 1000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "n": 1,
    "u": 1000,
    "µs": 1000,
}
AT_ONCE = 500  # lines: if one of them does not fit, all of them are read one by one
MAX_SERIES, MAX_SERIES_BYTES = 20_000, 400  # whose device and tag are remembered
MAX_DIGITS = 30  # of an integer

_COMMENT, _BLANKS = ord("#"), b" \t\0"
_ESCAPED_SPACE = b"\1"  # in place of \\ and a space, so that all other spaces are between the parts of a line
_SCALARS = {int, float, bool, str}
_BOOLEANS = dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), b"true") | dict.fromkeys(
    (b"f", b"F", b"false", b"False", b"FALSE"), b"false"
)
_CAPITALS = (b"True", b"T", b"TRUE", b"False", b"F", b"FALSE")  # of clients in Python, in JavaScript
_INT64, _UINT64 = range(-(2**63), 2**63), range(2**64)
_DIGITS = b"0123456789"
_ZEROS = bytes.maketrans(_DIGITS, b"0" * 10)
_NEARLY_64_BITS = b"0" * 19  # digits
# An integer that is none, such as 1.5i, 1e5u or "x"i, has .i in its shape; 1iu has ii.
_SHAPE = bytes.maketrans(b'eE+"u\r', b"....i\t")
_NOT_FINITE = (b"nan", b"inf", b"infinity")
_SHOWN = 40  # bytes of what is wrong

# A backslash makes a comma, a space or an equals sign behind it part of a name, and else is a backslash.
_SPACE, _COMMA, _EQUALS = (re.compile(rb"(?<!\\)" + sign) for sign in (b" ", b",", b"="))
_ESCAPED = re.compile(rb'\\([,= "])')
_ESCAPED_IN_STRING = re.compile(rb'\\(["\\])')
_NAME = re.compile(rb"(?:[^\\,= ]++|\\[,= ]?)*+")
_FIELD = re.compile(rb"(%s)=" % _NAME.pattern + rb'(?:"((?:[^"\\]++|\\.)*+)"|([^, ]++))', re.DOTALL)
# To a line's end, over newlines in strings. Quotes begin a string only behind the = of a field.
_WHOLE_LINE = re.compile(
    rb"""(?:[^\\\n\ ]++|\\.?)*+
    (?:="(?:[^"\\]++|\\.)*+(?:"|\Z)|[^\\\n=]++|\\.?|=)*+""",
    re.DOTALL | re.VERBOSE,
)
_INTEGER = re.compile(rb"-?[0-9]{1,%d}" % MAX_DIGITS)
_FLOAT = re.compile(rb"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_JSON_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

Series = tuple[str, str | None]  # device, empty if no tag names it; and the tag
Line = tuple[str, str | None, bytes, int | None]  # device, tag, value, time in units of the precision


class BadLine(Exception):
    """`rule` completes a sentence that begins with the line."""

    def __init__(self, rule: str, reason: Reason = Reason.BAD_JSON_FORMAT) -> None:
        super().__init__(rule)
        self.rule = rule
        self.reason = reason


class Settings(NamedTuple):
    """What the lines of one body have in common."""

    unit: int  # of times, in nanoseconds
    earliest: int  # time, in units
    latest: int
    device_tags: tuple[str, ...]
    fallback: str  # device id


_known: dict[tuple[bytes, tuple[str, ...]], Series] = {}  # by what names it, and the names of device tags


def decode(
    body: bytes,
    now: int,
    precision: str = "ns",
    device_tags: Sequence[str] = DEVICE_TAGS,
    fallback_device: str = "",
) -> list[Reading]:
    """The device of a line is named by the first of `device_tags` that it has, or else is `fallback_device`.
    Lines of the same series and time become one reading with the fields of all, as they do in InfluxDB, and
    of a field that comes twice the last value. `now` is in microseconds. Raises BadBody."""
    unit = PRECISIONS.get(precision)
    if unit is None:
        known = ", ".join(PRECISIONS)
        raise BadBody(Reason.BAD_PARAMETER, f"precision={precision[:20]}: must be one of {known}.")
    earliest, latest = OLDEST_DATAPOINT * 1000 // unit, (now + MAX_AHEAD) * 1000 // unit
    settings = Settings(unit, earliest, latest, tuple(device_tags), device_id_of(fallback_device))
    lines: list[Line] = []
    for number, raw in _batches(body):
        lines += _read_together(raw, settings) or _read_each(number, raw, settings)
        if len(lines) > MAX_READINGS:
            raise BadBody(Reason.TOO_LARGE, f"A body has at most {MAX_READINGS:,} lines: send less at once.")
    return [
        Reading(device_id, tag, value, None if time is None else time * unit // 1000)
        for device_id, tag, value, time in _merged(lines)
    ]


def _batches(body: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """The number of the first line, from 1, and some lines. Those of the body that have a string with a
    newline in it count as many."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    lines = body.split(b"\n")
    simple = b'"' not in body and b"\\\n" not in body
    if simple or not any(_may_go_on(line) for line in lines if b'"' in line or line.endswith(b"\\")):
        for first in range(0, len(lines), AT_ONCE):
            yield first + 1, lines[first : first + AT_ONCE]
        return
    lines, number, first, start = [], 1, 1, 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line = body[start:end]
        if (b'"' in line or line.endswith(b"\\")) and not line.lstrip().startswith(b"#"):
            whole = _WHOLE_LINE.match(body, start)
            assert whole is not None  # it matches anything
            line, end = whole[0], whole.end()
        lines.append(line)
        number += 1 + line.count(b"\n")
        if len(lines) == AT_ONCE:
            yield first, lines
            lines, first = [], number
        start = end + 1
    yield first, lines


def _may_go_on(line: bytes) -> bool:
    """Whether it may end in a string, so that there is more of it on the next one."""
    return b"\\" in line or line.count(b'"') % 2 == 1 or line.find(b'"') < line.find(b" ")


def _read_together(raw: list[bytes], settings: Settings) -> list[Line] | None:
    """None: read them one by one, for one of them may be bad, or need more than this knows."""
    text = b"\n".join(raw)
    if _ESCAPED_SPACE in text:
        return None
    if b"\r" in text:
        raw = [line.removesuffix(b"\r") for line in raw]
    others: list[tuple[int, Line]] = []
    plain = [line for line in raw if line and line[0] != _COMMENT]
    try:
        if b'"' in text or b"\\" in text:
            plain, others = _apart(plain, settings)
        lines = _read_plain(plain, settings) if plain else []
    except (BadLine, TypeError, ValueError):  # zip, int, orjson and decode say so
        return None
    for place, found in others:
        lines.insert(place, found)
    return lines


def _apart(raw: list[bytes], settings: Settings) -> tuple[list[bytes], list[tuple[int, Line]]]:
    """Those for `_read_plain`; and the others, with their places. Raises BadLine, ValueError."""
    plain: list[bytes] = []
    others: list[tuple[int, Line]] = []
    for line in raw:
        if b"\\" in line:
            escaped = line.replace(b"\\ ", _ESCAPED_SPACE)
        elif b'"' in line:
            escaped = line
        else:
            plain.append(line)
            continue
        series, _, rest = escaped.partition(b" ")
        if b'"' not in series and b"\\" not in rest and _ESCAPED_SPACE not in rest:
            plain.append(escaped)
        elif found := _read_line(line, settings):
            others.append((len(plain) + len(others), found))
    return plain, others


def _read_plain(raw: list[bytes], settings: Settings) -> list[Line]:
    """Those whose backslashes and quotes are where they usually are: in the series, and around strings. All
    have a time, or none has. Raises BadLine, TypeError, ValueError."""
    text, *others = b"\n".join(raw).split(b'"')
    strings = others[::2]
    if strings:  # which may have spaces, commas and newlines in them
        text = b'""'.join([text, *others[1::2]])
        raw = text.split(b"\n")
    columns = list(zip(*[line.split(b" ") for line in raw], strict=True))
    times: Sequence[int | None] = [None] * len(raw)
    if len(columns) == 3:
        if b"".join(columns[2]).translate(None, _DIGITS) or max(map(len, columns[2])) > MAX_DIGITS:
            raise ValueError
        times = stated = list(map(int, columns[2]))
        if min(stated) < settings.earliest or max(stated) > settings.latest:
            raise ValueError
    elif len(columns) != 2:
        raise ValueError
    keys: Sequence[bytes] = columns[0]
    if _ESCAPED_SPACE in text:
        keys = b"\n".join(keys).replace(_ESCAPED_SPACE, b"\\ ").split(b"\n")
    known, names = _known, settings.device_tags
    series = [known.get((key, names)) or _new_series(key, names) for key in keys]
    device_ids, tags = zip(*series, strict=True)
    if "" in device_ids:
        device_ids = tuple(device_id or _fallback(settings) for device_id in device_ids)
    return list(zip(device_ids, tags, _values(columns[1], strings), times, strict=True))


def _values(fields: Sequence[bytes], strings: list[bytes]) -> list[bytes]:
    """The fields become JSON objects by replacing characters, in all of them at once, and orjson says whether
    they are. Strings are empty, so that each quote in the text is one that was put there, and come in at the
    end. Raises TypeError, ValueError."""
    text = b",\n".join(fields) + b",\n"
    shape = text.translate(_SHAPE, _DIGITS)
    if b".i," in shape or b"ii," in shape or b"\t" in shape or _NEARLY_64_BITS in text.translate(_ZEROS):
        raise ValueError
    if b"-i," in shape and b"-u," in text.translate(None, _DIGITS):
        raise ValueError
    fields_in_all = text.count(b"=")
    if b"=T" in text or b"=F" in text:
        for spelling in _CAPITALS:
            text = text.replace(b"=%s," % spelling, b"=%s," % _BOOLEANS[spelling])
    for suffix in (b"i,", b"u,"):
        text = text.replace(suffix, b",")
    text = text.replace(b"=", b'":').replace(b",", b',"').replace(b',"\n', b'},\n{"')
    text = b'{"' + text.removesuffix(b',\n{"')
    texts = text.split(b",\n")
    if b'"":' in text or json_rules.suspicious(texts, max(map(len, texts))):
        raise ValueError
    if strings:
        pieces = [b""] * (2 * len(strings) + 1)
        pieces[::2], pieces[1::2] = text.split(b'""'), strings
        text = b'"'.join(pieces)
        texts = text.split(b",\n")
    if max(map(len, texts)) > json_rules.MAX_BYTES:
        raise ValueError
    values = orjson.loads(b"[" + text + b"]")
    kinds = set(map(type, chain.from_iterable(map(dict.values, values))))
    no_field_twice = sum(map(len, values)) == fields_in_all
    if not kinds <= _SCALARS or not no_field_twice or len(values) != len(fields):
        raise ValueError
    return texts


def _read_each(number: int, raw: list[bytes], settings: Settings) -> list[Line]:
    """`number`: of the first line. Raises BadBody, which names the first bad one."""
    lines = []
    for line in raw:
        try:
            if found := _read_line(line, settings):
                lines.append(found)
        except BadLine as bad:
            raise BadBody(bad.reason, f"line {number}: {bad.rule}.") from None
        except UnicodeDecodeError:
            rule = "it is not UTF-8: send text in UTF-8"
            raise BadBody(Reason.BAD_JSON_FORMAT, f"line {number}: {rule}.") from None
        number += 1 + line.count(b"\n")
    return lines


def _read_line(line: bytes, settings: Settings) -> Line | None:
    """None: it is blank or a comment. Raises BadLine, UnicodeDecodeError."""
    line = line.removesuffix(b"\r").lstrip(_BLANKS)
    if not line or line[0] == _COMMENT:
        return None
    space = _SPACE.search(line)
    if space is None:
        raise BadLine("it has no fields: a line is measurement,tag=value field=value time")
    raw, names = line[: space.start()], settings.device_tags
    device_id, tag = _known.get((raw, names)) or _new_series(raw, names)
    fields, rest = _fields(line[space.end() :].lstrip(_BLANKS))
    return device_id or _fallback(settings), tag, fields, _time(rest.strip(_BLANKS), settings)


def _new_series(raw: bytes, device_tags: tuple[str, ...]) -> Series:
    """Raises BadLine, UnicodeDecodeError."""
    measurement, *parts = _COMMA.split(raw.lstrip(_BLANKS))
    if not measurement:
        raise BadLine("it has no measurement: a line is measurement,tag=value field=value time")
    tags: dict[str, str] = {}
    for part in parts:
        pair = _EQUALS.split(part)
        if len(pair) != 2 or not all(pair):
            raise BadLine(
                rf"{_shown(part)} is no tag: write name=value, and \ before a comma, space or = in it"
            )
        name, value = map(_unescaped, pair)
        if name in tags:
            raise BadLine(f"the tag {_shown(pair[0])} comes twice: give it one value")
        tags[name] = value
    naming = next((name for name in device_tags if name in tags), None)
    device_id = device_id_of(tags.pop(naming)) if naming else ""
    levels = [_unescaped(measurement), *(f"{name}={value}" for name, value in sorted(tags.items()))]
    series = device_id, tag_of("/".join(levels))
    if len(raw) <= MAX_SERIES_BYTES:
        if len(_known) >= MAX_SERIES:
            _known.clear()
        _known[raw, device_tags] = series
    return series


def _fallback(settings: Settings) -> str:
    if settings.fallback:
        return settings.fallback
    names = " or ".join(settings.device_tags)
    raise BadLine(
        f"it does not say whose it is: give it the tag {names}, or the device's id in the URL, behind the key"
    )


def _fields(raw: bytes) -> tuple[bytes, bytes]:
    """JSON text, and what follows. Raises BadLine, UnicodeDecodeError."""
    texts: dict[bytes, bytes] = {}
    place = 0
    while True:
        field = _FIELD.match(raw, place)
        if field is None or field.end(1) == place:
            _no_field(raw[place:])
        name, string, bare = field.groups()
        texts[orjson.dumps(_unescaped(name))] = _text(name, bare) if string is None else _string(string)
        place = field.end()
        if raw[place : place + 1] != b",":
            break
        place += 1
    rest = raw[place:]
    if rest and rest[0] not in _BLANKS:
        raise BadLine(
            f"{_shown(rest)} follows the string of {_shown(name)}: write a comma, or a space and the time"
        )
    text = b"{%s}" % b",".join(b"%s:%s" % pair for pair in texts.items())
    _check(text)
    return text, rest


def _check(text: bytes) -> None:
    """Raises BadLine."""
    try:
        if len(text) > json_rules.MAX_BYTES:
            raise BadValue(Reason.TOO_LARGE, "has more than 64 KiB of fields: send them in several lines")
        json_rules.check(text, {})
    except BadValue as bad:
        raise BadLine(f"it {bad.rule}", bad.reason) from None


def _text(name: bytes, bare: bytes) -> bytes:
    """JSON text. Raises BadLine."""
    if found := _BOOLEANS.get(bare):
        return found
    suffix, number = bare[-1:], bare[:-1]
    if suffix in (b"i", b"u") and _INTEGER.fullmatch(number):
        if int(number) not in (_INT64 if suffix == b"i" else _UINT64):
            bits = "64 bit, with a sign" if suffix == b"i" else "64 bit, from 0 on"
            raise BadLine(f"the field {_shown(name)} is beyond {bits}: send it without the {suffix.decode()}")
        return number if _JSON_NUMBER.fullmatch(number) else b"%d" % int(number)
    if _JSON_NUMBER.fullmatch(bare):
        return bare
    if _FLOAT.fullmatch(bare) and isfinite(float(bare)):
        return repr(float(bare)).encode()
    if bare.startswith(b'"'):
        raise BadLine(f"the string of {_shown(name)} does not end: close its quotes")
    if bare.lower().lstrip(b"+-") in _NOT_FINITE:
        raise BadLine(f"the field {_shown(name)} is {_shown(bare)}, which can't be kept: leave it out")
    rule = f"the field {_shown(name)} is {_shown(bare)}, which is no number, true or false"
    raise BadLine(f"{rule}: put text in double quotes")


def _string(raw: bytes) -> bytes:
    return orjson.dumps(_ESCAPED_IN_STRING.sub(rb"\1", raw).decode())


def _no_field(rest: bytes) -> NoReturn:
    name = _NAME.match(rest)
    assert name is not None  # it matches anything
    behind = rest[name.end() :]
    if not name[0]:
        what = "a field has no name" if behind.startswith(b"=") else "a field is missing"
        raise BadLine(f"{what}: write name=value")
    if behind.startswith(b"="):
        raise BadLine(f"the field {_shown(name[0])} has no value: leave it out")
    raise BadLine(
        rf"{_shown(name[0])} is no field: write name=value, and \ before a space in a tag or a name"
    )


def _time(raw: bytes, settings: Settings) -> int | None:
    if not raw:
        return None
    if not _INTEGER.fullmatch(raw):
        raise BadLine(f"its time is {_shown(raw)}: write an integer, or nothing for the time of arrival")
    time = int(raw)
    if settings.earliest <= time <= settings.latest:
        return time
    rule = f"its time {time} is not within 2000-01-01 and tomorrow"
    for precision in ("s", "ms", "us", "ns"):
        at = time * PRECISIONS[precision] // 1000
        if OLDEST_DATAPOINT <= at <= settings.latest * settings.unit // 1000:
            rule += f": if it is {utc_text(at)}, write precision={precision} in the URL"
    raise BadLine(rule, Reason.BAD_PARAMETER)


def _merged(lines: list[Line]) -> list[Line]:
    """Raises BadBody."""
    if len({(device_id, tag, time) for device_id, tag, _, time in lines}) == len(lines):
        return lines
    together: dict[tuple[str, str | None, int | None], list[bytes]] = {}
    for device_id, tag, text, time in lines:
        together.setdefault((device_id, tag, time), []).append(text)
    return [(device_id, tag, _union(tag, texts), time) for (device_id, tag, time), texts in together.items()]


def _union(tag: str | None, texts: list[bytes]) -> bytes:
    if texts.count(texts[0]) == len(texts):
        return texts[0]
    objects = list(map(orjson.loads, texts))
    fields = {name: value for each in objects for name, value in each.items()}
    # Numbers stay as they are written, but for those of lines that have a field in common.
    apart = len(fields) == sum(map(len, objects))
    union = b"{%s}" % b",".join(text[1:-1] for text in texts) if apart else orjson.dumps(fields)
    try:
        _check(union)
    except BadLine as bad:
        raise BadBody(bad.reason, f"Of the lines of {tag} at one time: {bad.rule}.") from None
    return union


def _unescaped(raw: bytes) -> str:
    return (_ESCAPED.sub(rb"\1", raw) if b"\\" in raw else raw).decode()


def _shown(raw: bytes) -> str:
    text = raw[:_SHOWN].decode("utf-8", "replace")
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable + ("..." if len(raw) > _SHOWN else "")
