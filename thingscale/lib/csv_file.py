"""Reads and writes tables that people keep in a spreadsheet, as CSV.

A text that a spreadsheet would run as a formula is written with ' before it, and read without.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from thingscale.lib.plurals import counted

MAX_BYTES = 5 * 2**20
MAX_ROWS = 10_000
_FORMULA = re.compile("'*[=+\\-@\t\r]")  # also one that has a ' already, so that it comes back as it was
_DELIMITERS = ",;\t"
_STATED_DELIMITER = re.compile(r"""("?)sep=([,;|\t])\1""", re.IGNORECASE)  # a spreadsheet's own first line


class CsvRow(NamedTuple):
    line: int  # where it begins in the file, from 1
    cells: dict[str, str]  # by column


class Unreadable(Exception):
    """The whole file is refused. `message` is a sentence that says what to do."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def read(data: bytes, columns: Sequence[str], required: str) -> list[CsvRow]:
    """Reads UTF-8 with or without a byte order mark. The delimiter is comma, semicolon or tab, or what a
    first line such as `sep=;` says. The next line has the columns' names in any order, `required` among them.
    Raises Unreadable."""
    if len(data) > MAX_BYTES:
        raise Unreadable(1, f"The file has more than {MAX_BYTES // 2**20} MB: send it in parts.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, "The file is not UTF-8: save it as CSV UTF-8.") from None
    first, _, rest = text.partition("\n")
    skipped = 0
    if stated := _STATED_DELIMITER.fullmatch(first.rstrip("\r")):
        text, skipped = rest, 1
    delimiter = stated[2] if stated else max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = ((line + skipped, cells) for line, cells in _lines(reader))
    line, names = next(lines, (1, []))
    while names and not names[-1].strip():
        names.pop()
    header = _header(line, names, columns, required)
    rows: list[CsvRow] = []
    for line, cells in lines:
        while len(cells) > len(header) and not cells[-1].strip():
            cells.pop()  # columns that have been emptied: spreadsheets go on writing them
        if len(cells) != len(header):
            raise Unreadable(
                line, f"This line has {counted(len(cells), 'column')}, the first one {len(header)}."
            )
        if len(rows) == MAX_ROWS:
            raise Unreadable(line, f"A file has at most {MAX_ROWS} rows: send it in parts.")
        texts = [cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell for cell in cells]
        rows.append(CsvRow(line, dict(zip(header, texts, strict=True))))
    return rows


def write(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Line by line, with commas."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for row in rows:
        writer.writerow([f"'{cell}" if _FORMULA.match(cell) else cell for cell in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _lines(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty."""
    line = 1
    try:
        for cells in reader:
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise Unreadable(line, f"This line can't be read as CSV: {error}.") from None


def _header(line: int, names: Sequence[str], columns: Sequence[str], required: str) -> list[str]:
    header = [name.strip().lower() for name in names]
    known = ", ".join(columns)
    for name in header:
        if name not in columns:
            raise Unreadable(line, f"There is no column {name[:64]!r}: use {known}.")
        if header.count(name) > 1:
            raise Unreadable(line, f"The column {name} is there twice.")
    if required not in header:
        raise Unreadable(line, f"The first line has to name the columns, {required} among them.")
    return header
