"""Remote write of Prometheus, 1.0 and 2.0: protobuf, compressed with Snappy.

The device is the label `instance`, or else `job`; the tag is the metric. `job` is in a key only where two
jobs have the same series of an instance at the same time. Stale markers, NaN and infinities are left out:
JSON has none of them. Exemplars and metadata are passed over.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import accumulate, islice
from typing import Any, NamedTuple

import cramjam

from thingscale.intakes.formats import protobuf
from thingscale.intakes.formats.labelled import (
    DEVICE_IDS,
    MAX_BUCKETS,
    MAX_KEY,
    TAGS,
    Labelled,
    Remembered,
    bound,
    exponential_bound,
    key_of,
    with_finite_numbers,
)
from thingscale.intakes.formats.protobuf import (
    BYTES,
    FIXED64,
    VARINT,
    BadMessage,
    Field,
    Kind,
    Schema,
    fields,
    key,
)
from thingscale.intakes.formats.readings import MAX_BODY, BadBody, Reading
from thingscale.lib.json_rules import BadValue
from thingscale.lib.reasons import Reason

NAMELESS = "prometheus"  # the device of series without `instance` and `job`, as recording rules make them
MAX_LABELS = 256  # of a series
MAX_SYMBOLS = 200_000
MAX_SERIES = 100_000

_CUSTOM_BUCKETS = -53  # a histogram's schema

# WriteRequest (1.0) and Request (2.0)
_SERIES_1, _SYMBOL, _SERIES_2 = key(1, BYTES), key(4, BYTES), key(5, BYTES)
# TimeSeries
_LABEL = key(1, BYTES)
_LABELS_REFS, _LABELS_REF = key(1, BYTES), key(1, VARINT)
_SAMPLE = key(2, BYTES)
_HISTOGRAM_1, _HISTOGRAM_2 = key(4, BYTES), key(3, BYTES)
# Label
_NAME, _VALUE = key(1, BYTES), key(2, BYTES)
# Sample
_NUMBER, _TIME = key(1, FIXED64), key(2, VARINT)
# A field with a sample of a number (not 0) and a time from 2004 to 2109; with 0, which is not sent
_ONE_SAMPLE, _ONE_ZERO = b"\x12\x10\x09", b"\x12\x07\x10"
_HISTOGRAM = Schema(
    count_int=Field(1, Kind.UINT),
    count_float=Field(2, Kind.DOUBLE),
    sum=Field(3, Kind.DOUBLE),
    schema=Field(4, Kind.SINT),
    zero_count_int=Field(6, Kind.UINT),
    zero_count_float=Field(7, Kind.DOUBLE),
    negative_spans=Field(8, Kind.MESSAGE, repeated=True),
    negative_deltas=Field(9, Kind.SINT, repeated=True),
    negative_counts=Field(10, Kind.DOUBLE, repeated=True),
    positive_spans=Field(11, Kind.MESSAGE, repeated=True),
    positive_deltas=Field(12, Kind.SINT, repeated=True),
    positive_counts=Field(13, Kind.DOUBLE, repeated=True),
    timestamp=Field(15, Kind.INT),
    custom_values=Field(16, Kind.DOUBLE, repeated=True),
)
_SPAN = Schema(offset=Field(1, Kind.SINT), length=Field(2, Kind.UINT))


class Message(StrEnum):
    """As the `proto` of a Content-Type names it."""

    V1 = "prometheus.WriteRequest"
    V2 = "io.prometheus.write.v2.Request"


class Decoded(NamedTuple):
    readings: list[Reading]
    samples: Counter[str]  # by device, with those that were left out
    histograms: Counter[str]
    left_out: int


class _Series(NamedTuple):
    device_id: str
    tag: str | None
    key: str
    job: str  # as a label, if it is no part of the key


_Read = tuple[_Series, list[bytes], list[bytes]]  # a time series: what it is, its samples and histograms


def decode(body: bytes, now: int, message: Message, nameless: str = NAMELESS) -> Decoded:
    """`nameless` is the device of series that name none. Raises BadBody."""
    labelled = Labelled(now)
    written, histograms_written = Counter[str](), Counter[str]()
    left_out = 0
    where = "The body"
    try:
        whole = _unpacked(body)
        symbols = [] if message is Message.V1 else _symbols(whole)
        wanted = _SERIES_1 if message is Message.V1 else _SERIES_2
        all_series = (content for field, content in fields(whole) if field == wanted)
        for place, text in enumerate(all_series):
            where = f"timeseries[{place}]"
            if place >= MAX_SERIES:
                raise BadValue(Reason.TOO_LARGE, f"is beyond {MAX_SERIES} series: send less at a time")
            read = _read_1(text) if message is Message.V1 else _read_2(text, symbols)
            (device_id, tag, labels, job), samples, histograms = read
            device_id = device_id or nameless
            written[device_id] += len(samples)
            for sample in samples:
                number, at = _sample(sample)
                if math.isfinite(number):
                    labelled.add((device_id, tag, at), labels, number, job)
                else:
                    left_out += 1
            for sample in histograms:
                histograms_written[device_id] += 1
                at, histogram = _histogram(sample)
                if histogram:
                    labelled.add_object((device_id, tag, at), labels, histogram, job)
                else:
                    left_out += 1
    except BadMessage as error:
        raise BadBody(Reason.BAD_JSON_FORMAT, f"{where} {error}.") from None
    except BadValue as error:
        raise BadBody(error.reason, f"{where} {error.rule}.") from None
    return Decoded(labelled.readings(), written, histograms_written, left_out)


def _unpacked(body: bytes) -> bytes:
    """Raises BadValue. What it is to become is stated in front of it, and believed only if it is little."""
    size, shift = 0, 0
    for byte in body[:5]:
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    if size > MAX_BODY:
        raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_BODY >> 20} MiB: send less at a time")
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError:
        raise BadValue(Reason.BAD_JSON_FORMAT, "is not compressed with Snappy (its block format)") from None


# Series of 1.0


def _read_1(text: bytes) -> _Read:
    """Raises BadMessage, BadValue."""
    # Nearly all are labels with one sample behind them. Where what is before the sample proves to be whole
    # labels, it is one.
    size = 18 if text[-18:-15] == _ONE_SAMPLE else 9 if text[-9:-6] == _ONE_ZERO else 0
    if size:
        try:
            return _SERIES_OF_LABELS[text[:-size]], [text[2 - size :]], []
        except BadMessage:
            pass
    labels: list[bytes] = []
    samples, histograms = [], []
    for field, content in fields(text):
        if field == _LABEL:
            labels.append(protobuf.written(1, content))
            if len(labels) > MAX_LABELS:
                break
        elif field == _SAMPLE:
            samples.append(content)
        elif field == _HISTOGRAM_1:
            histograms.append(content)
    return _SERIES_OF_LABELS[b"".join(labels)], samples, histograms


def _series_of_labels(labels: bytes) -> _Series:
    """Raises BadMessage, BadValue."""
    texts: list[str] = []
    for field, label in fields(labels):
        if field != _LABEL:
            raise BadMessage("has something else between its labels")
        texts += _LABELS[label]
        if len(texts) > 2 * MAX_LABELS:
            break
    return _series(texts)


def _label(label: bytes) -> tuple[str, str]:
    """Name and value. Raises BadMessage."""
    name = value = b""
    for field, content in fields(label):
        if field == _NAME:
            name = content
        elif field == _VALUE:
            value = content
    return protobuf.text(name), protobuf.text(value)


_LABELS: Remembered[bytes, tuple[str, str]] = Remembered(_label, len)


# Series of 2.0


def _symbols(whole: bytes) -> list[str]:
    """Raises BadMessage, BadValue."""
    found: list[str] = []
    for field, content in fields(whole):
        if field == _SYMBOL:
            found.append(protobuf.text(content))
            if len(found) > MAX_SYMBOLS:
                raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_SYMBOLS} symbols: send less at a time")
    return found


def _read_2(text: bytes, symbols: list[str]) -> _Read:
    """Raises BadMessage, BadValue."""
    refs: list[int] = []
    samples, histograms = [], []
    for field, content in fields(text):
        if field == _LABELS_REFS:
            refs += protobuf.varints(content)
        elif field == _SAMPLE:
            samples.append(content)
        elif field == _HISTOGRAM_2:
            histograms.append(content)
        elif field == _LABELS_REF:
            refs.append(content)
        if len(refs) > 2 * MAX_LABELS:
            raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_LABELS} labels")
    if len(refs) % 2:
        raise BadMessage("has a label without a value")
    try:
        texts = tuple([symbols[ref] for ref in refs])
    except IndexError:
        raise BadMessage("refers to a symbol that is not there") from None
    return _SERIES_OF_TEXTS[texts], samples, histograms


# Of both


def _series(texts: Sequence[str]) -> _Series:
    """Of names and values in turn. Raises BadValue."""
    if len(texts) > 2 * MAX_LABELS:
        raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_LABELS} labels")
    if sum(map(len, texts)) > MAX_KEY:
        raise BadValue(Reason.TOO_LARGE, f"has more than {MAX_KEY >> 10} KiB of labels")
    labels = dict(zip(texts[::2], texts[1::2], strict=True))
    metric, instance, job = (labels.pop(name, "") for name in ("__name__", "instance", "job"))
    rest = key_of([pair for pair in labels.items() if pair[1]])  # an empty one is none
    otherwise = key_of([("job", job)]) if instance and job else ""
    return _Series(DEVICE_IDS[instance or job], TAGS[metric], rest, otherwise)


_SERIES_OF_LABELS: Remembered[bytes, _Series] = Remembered(_series_of_labels, len)
_SERIES_OF_TEXTS: Remembered[tuple[str, ...], _Series] = Remembered(
    _series, lambda texts: sum(map(len, texts))
)


def _sample(sample: bytes) -> tuple[float, int]:
    """Its number, and its time in microseconds. Raises BadMessage."""
    if len(sample) == 16 and sample[0] == _NUMBER and sample[9] == _TIME:
        return protobuf.double(sample[1:9]), _TIMES[sample[9:]]
    number = 0.0  # what is not there is zero
    for field, content in fields(sample):
        if field == _NUMBER:
            number = protobuf.double(content)
    return number, _time(sample)


def _time(sample: bytes) -> int:
    milliseconds = 0
    for field, content in fields(sample):
        if field == _TIME:
            milliseconds = content
    return protobuf.signed(milliseconds) * 1000


_TIMES: Remembered[bytes, int] = Remembered(_time, len)  # many samples have the same


def _histogram(text: bytes) -> tuple[int, dict[str, Any] | None]:
    """Time in microseconds, and the value; None: a stale marker. Raises BadMessage, BadValue."""
    read = _HISTOGRAM.read(text)
    at, total, schema = read.get("timestamp", 0) * 1000, read.get("sum", 0.0), read.get("schema", 0)
    if math.isnan(total):
        return at, None
    value = {"count": read.get("count_int", read.get("count_float", 0)), "sum": total}
    if zero := read.get("zero_count_int", read.get("zero_count_float", 0)):
        value["zero"] = zero
    bounds = [*read.get("custom_values", ()), math.inf]
    buckets = value["buckets"] = {}
    for index, count in _buckets(read, "negative"):
        buckets[bound(-exponential_bound(index - 1, schema))] = count
    for index, count in _buckets(read, "positive"):
        if schema != _CUSTOM_BUCKETS:
            buckets[bound(exponential_bound(index, schema))] = count
        elif 0 <= index < len(bounds):
            buckets[bound(bounds[index])] = count
        else:
            raise BadMessage("has a histogram with a bucket that has no bounds")
    return at, with_finite_numbers(value)


def _buckets(histogram: dict[str, Any], sign: str) -> Iterator[tuple[int, float]]:
    """Index and count of those that are not empty. Integer counts are sent as differences."""
    spans, deltas = histogram.get(f"{sign}_spans", []), histogram.get(f"{sign}_deltas", [])
    counts = histogram.get(f"{sign}_counts") or list(accumulate(deltas))
    if len(counts) > MAX_BUCKETS or len(spans) > MAX_BUCKETS:
        raise BadValue(Reason.TOO_LARGE, f"has a histogram of more than {MAX_BUCKETS} buckets")
    index, rest = 0, iter(counts)
    for span in map(_SPAN.read, spans):
        index += span.get("offset", 0)
        for count in islice(rest, min(span.get("length", 0), MAX_BUCKETS)):
            if count:
                yield index, count
            index += 1
