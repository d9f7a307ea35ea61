"""Datapoints as lines of CSV, made in PostgreSQL.

The columns must be known before the first line. They are taken from a sample, the first and the newest
datapoints of what is asked for; what another datapoint has beyond them is JSON in the last column, so that
nothing is lost and nothing is read twice.
"""

from thingscale.streams.queries import Form, Selection, reading, template

SAMPLE = 500  # datapoints at each end
MAX_COLUMNS = 200
HEAD = ["id", "at", "tag", "value"]  # `value`: of a datapoint that is no object
REST = "rest"
_COLUMNS = template("columns.sql").substitute()

Path = list[str]


def columns(selection: Selection) -> list[Path]:
    """Paths inside the values. Where datapoints differ in shape, the object wins over what it replaces."""
    with reading() as cursor:
        cursor.execute(_COLUMNS, {**selection.parameters, "sample": SAMPLE, "columns": MAX_COLUMNS})
        paths = [path for (path,) in cursor.fetchall()]
    # Ordered: a path comes right before the longer ones that begin with it.
    following: list[Path] = [*paths[1:], []]
    return [path for path, after in zip(paths, following, strict=False) if after[: len(path)] != path]


def names(paths: list[Path]) -> list[str]:
    return [*HEAD, *(".".join(path) for path in paths), REST]


def form(paths: list[Path]) -> Form:
    """Lines of CSV with these columns between those of HEAD and REST."""
    texts = [f"%(path_{n})s::text[]" for n in range(len(paths))]
    cells = [
        "_id",
        "shown_at",
        _quoted("tag"),
        _cell("CASE jsonb_typeof(value) WHEN 'object' THEN NULL ELSE value END"),
        *(_cell(f"value #> {path}") for path in texts),
        _rest(texts),
    ]
    parameters = {f"path_{n}": path for n, path in enumerate(paths)}
    return Form(" || ',' || ".join(cells), joint="\r\n", parameters=parameters)


def line(cells: list[str]) -> str:
    return ",".join(
        '"' + cell.replace('"', '""') + '"' if set(cell) & set('",\r\n') else cell for cell in cells
    )


def _quoted(text: str) -> str:
    return f"""coalesce('"' || replace({text}, '"', '""') || '"', '')"""


def _cell(value: str) -> str:
    """Numbers and truth as they are, text and lists in quotes, null and nothing empty."""
    return f"""(SELECT CASE
        WHEN jsonb_typeof(c) IN ('number', 'boolean') THEN c::text
        WHEN jsonb_typeof(c) = 'null' THEN ''
        ELSE {_quoted("c #>> '{}'")}
    END FROM (SELECT {value} AS c OFFSET 0) AS cell)"""  # noqa: S608 (expressions of ours)


def _rest(paths: list[str]) -> str:
    taken = "".join(f" #- {path}" for path in paths)
    return f"""(SELECT CASE
        WHEN jsonb_path_exists(c, '$.** ? (@.type() != "object")') THEN {_quoted("c::text")} ELSE ''
    END FROM (SELECT CASE jsonb_typeof(value) WHEN 'object' THEN value{taken} ELSE '{{}}' END AS c
        OFFSET 0) AS rest)"""  # noqa: S608
