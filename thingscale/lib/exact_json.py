"""Reads JSON so that its numbers stay as they were written."""

import json
from typing import Any, NoReturn

import orjson

_NO_PART_OF_NUMBERS = bytes(set(range(256)) - set(b'0123456789.-+eE,:[]{}"'))  # nor between two numbers


class Number(str):
    """A number as it was written: 23.40 stays 23.40."""

    __slots__ = ()


def loads(body: bytes) -> Any:
    """Numbers that a Python float would change become Number. A body without such numbers is read by orjson,
    which is faster. Raises ValueError or RecursionError."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:  # it also refuses some JSON, such as numbers beyond a float
        return standard(body, parse_float=Number, parse_int=_whole)
    try:
        written = orjson.dumps(found)
    except orjson.JSONEncodeError:  # it reads what is nested deeper than it writes
        return standard(body, parse_float=Number, parse_int=_whole)
    if body.translate(None, _NO_PART_OF_NUMBERS) == written.translate(None, _NO_PART_OF_NUMBERS):
        return found
    return standard(body, parse_float=Number, parse_int=_whole)


def standard(body: bytes, **numbers: Any) -> Any:
    """`numbers`: parse_float and parse_int of json.loads. Raises ValueError or RecursionError."""
    return json.loads(body.decode(), parse_constant=_not_json, **numbers)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _whole(text: str) -> int | Number:
    return int(text) if len(text) < 19 else Number(text)
