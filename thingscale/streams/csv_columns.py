"""Makes CSV lines of datapoints in PostgreSQL.

The columns must be known before the first line. They are taken from a sample: the first and the newest
datapoints of the selection. Everything that another datapoint has in addition is JSON in the last column. So
nothing is lost, and nothing is read twice.

A column's name depends only on its path: it is the same in every file, and no two paths have the same name.
"""

import re
from typing import NamedTuple

from thingscale.streams.queries import RowFormat, Selection, reading, template

SAMPLE = 500  # datapoints at each end
MAX_COLUMNS = 200
HEAD = ["id", "at", "tag", "device", "value"]  # `value`: of a datapoint that is no object
REST = "rest"
_COLUMNS = template("columns.sql").substitute()
_FORMULA = r"^('*[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-])"  # also what is marked already (lib/csv_file.py)

Path = list[str]


class Dialect(NamedTuple):
    separator: str = ","
    marked: bool = False  # a text that a spreadsheet would run as a formula gets ' before it


def columns(selection: Selection) -> list[Path]:
    """Paths inside the values. If a path has an object in one datapoint and something else in another, the
    paths in the object are columns."""
    with reading() as cursor:
        cursor.execute(_COLUMNS, {**selection.parameters, "sample": SAMPLE, "columns": MAX_COLUMNS})
        paths = [path for (path,) in cursor.fetchall()]
    # Ordered: a path comes right before the longer ones that begin with it.
    following: list[Path] = [*paths[1:], []]
    return [path for path, after in zip(paths, following, strict=False) if after[: len(path)] != path]


def names(paths: list[Path]) -> list[str]:
    return [*HEAD, *map(name, paths), REST]


def name(path: Path) -> str:
    r"""`gps.lat`. A dot inside a key is `\.`, a backslash `\\`, an empty key `\e`; a key that is called like
    one of our own columns has a dot before it: `.value`."""
    keys = [re.sub(r"([\\.])", r"\\\1", key) or r"\e" for key in path]
    return f".{keys[0]}" if keys[0] in {*HEAD, REST} and len(keys) == 1 else ".".join(keys)


def form(paths: list[Path], dialect: Dialect) -> RowFormat:
    """Lines of CSV with these columns between those of HEAD and REST."""
    cells = [
        "_id",
        "shown_at",
        _quoted("tag", dialect),
        _quoted("device_id", dialect),
        _cell("CASE jsonb_typeof(value) WHEN 'object' THEN NULL ELSE value END", dialect),
        *(_cell(_value_at(number, path), dialect) for number, path in enumerate(paths)),
        _rest(paths, dialect),
    ]
    parameters = {f"path_{number}": path for number, path in enumerate(paths)}
    row = f" || '{dialect.separator}' || ".join(cells)
    return RowFormat(row, separator="\r\n", parameters=parameters, device="device")


def line(cells: list[str], dialect: Dialect) -> str:
    if dialect.marked:
        cells = [re.sub(_FORMULA, r"'\1", cell) for cell in cells]
    special = set('",;\t\r\n')
    return dialect.separator.join(
        '"' + cell.replace('"', '""') + '"' if set(cell) & special else cell for cell in cells
    )


def _quoted(text: str, dialect: Dialect) -> str:
    if dialect.marked:
        pattern = _FORMULA.replace("'", "''")
        text = rf"regexp_replace({text}, '{pattern}', '''\1')"
    return f"""coalesce('"' || replace({text}, '"', '""') || '"', '')"""


def _cell(value: str, dialect: Dialect) -> str:
    """Numbers, true and false as they are; text and lists in quotes; null and nothing as an empty cell."""
    return f"""(SELECT CASE
        WHEN jsonb_typeof(c) IN ('number', 'boolean') THEN c::text
        WHEN jsonb_typeof(c) = 'null' THEN ''
        ELSE {_quoted("c #>> '{}'", dialect)}
    END FROM (SELECT {value} AS c OFFSET 0) AS cell)"""  # noqa: S608 (expressions of ours)


def _value_at(number: int, path: Path) -> str:
    """The value at a path of objects. Without the check, a key such as `0` would also find an element of an
    array."""
    found = f"value #> %(path_{number})s::text[]"
    through = _through_objects(number, [place for place in range(1, len(path)) if _is_index(path[place])])
    return f"CASE WHEN {through} THEN {found} END" if through else found


def _is_index(key: str) -> bool:
    return re.fullmatch(r"\s*[+-]?[0-9]+", key) is not None


def _through_objects(number: int, lengths: list[int]) -> str:
    """Whether the path's beginnings of these lengths are objects."""
    path = f"(%(path_{number})s::text[])"
    return " AND ".join(f"jsonb_typeof(value #> {path}[1:{length}]) = 'object'" for length in lengths)


def _rest(paths: list[Path], dialect: Dialect) -> str:
    """The last cell: what the other columns do not have."""
    taken = ""
    for number, path in enumerate(paths):
        removed = f"%(path_{number})s::text[]"
        if len(path) > 1:  # PostgreSQL refuses to take a key out of an array
            indexes = [place for place in range(1, len(path) - 1) if _is_index(path[place])]
            through = _through_objects(number, [*indexes, len(path) - 1])
            removed = f"CASE WHEN {through} THEN {removed} ELSE '{{}}' END"
        taken += f" #- ({removed})"
    return f"""(SELECT CASE
        WHEN jsonb_path_exists(c, 'strict $.** ? (@.type() != "object")')
        THEN {_quoted("c::text", dialect)} ELSE ''
    END FROM (SELECT CASE jsonb_typeof(value) WHEN 'object' THEN value{taken} ELSE '{{}}' END AS c
        OFFSET 0) AS rest)"""  # noqa: S608 (SQL reads worse broken up)
