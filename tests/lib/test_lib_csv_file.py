"""CSV from spreadsheets: what is understood, and what is refused with its line."""

import csv
import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingscale.lib import csv_file
from thingscale.lib.csv_file import CsvRow, Unreadable, read, write

COLUMNS = ("id", "text", "n")


def rows(data: str | bytes) -> list[CsvRow]:
    return read(data.encode() if isinstance(data, str) else data, COLUMNS, "id")


def refusal(data: str | bytes) -> tuple[int, str]:
    with pytest.raises(Unreadable) as caught:
        rows(data)
    assert caught.value.message.endswith(".")
    return caught.value.line, caught.value.message


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_kinds_that_spreadsheets_write(delimiter: str, end: str, mark: bytes) -> None:
    lines = ["text;ID ;n", "é;d1;1", "", '"a;""b""";d2;']
    data = mark + end.join(lines).replace(";", delimiter).encode()
    assert rows(data) == [
        CsvRow(2, {"text": "é", "id": "d1", "n": "1"}),
        CsvRow(4, {"text": f'a{delimiter}"b"', "id": "d2", "n": ""}),
    ]


def test_a_row_begins_where_its_first_line_does() -> None:
    found = rows('id,text\n1,"a\nb\r\nc"\n2, d \n')
    assert found == [CsvRow(2, {"id": "1", "text": "a\nb\r\nc"}), CsvRow(5, {"id": "2", "text": " d "})]


def test_one_column_only() -> None:
    assert [row.cells["id"] for row in rows("id\na b\nc;d\n")] == ["a b", "c;d"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_r17_the_first_line_of_a_spreadsheet_names_the_delimiter(delimiter: str, quote: str) -> None:
    data = f"{quote}sep={delimiter}{quote}\r\nid{delimiter}text\r\n1{delimiter}a\r\n"
    assert rows(data) == [CsvRow(3, {"id": "1", "text": "a"})]


def test_r17_columns_that_have_been_emptied_are_no_columns() -> None:
    assert rows("id;text;;\n1;a;;\n;;;\n2;b\n3;c;; \n") == [
        CsvRow(2, {"id": "1", "text": "a"}),
        CsvRow(4, {"id": "2", "text": "b"}),
        CsvRow(5, {"id": "3", "text": "c"}),
    ]
    assert refusal("id;text;;\n1;a;;x\n") == (2, "This line has 4 columns, the first one 2.")


def test_a_header_alone_has_no_rows() -> None:
    assert rows("id,n") == []


@pytest.mark.parametrize(
    ("data", "line", "part"),
    [
        ("", 1, "id among them"),
        ("text,n\n", 1, "id among them"),
        ("id,colour\n", 1, "no column 'colour': use id, text, n"),
        ("id,n,N\n", 1, "n is there twice"),
        ("id,n\n1,2\n3\n", 3, "1 column, the first one 2"),
        ("id,n\n1,2,3\n", 2, "3 columns"),
        ('id,n\n1,2\n"3,4\n', 3, "CSV"),
        ('id,n\n"1"2,3\n', 2, "CSV"),
        (b"id,n\n1,2\n\xe9,3\n", 3, "UTF-8"),
        ("id,n\n1,2\n".encode("utf-16"), 1, "UTF-8"),
    ],
)
def test_what_is_refused(data: str | bytes, line: int, part: str) -> None:
    found, message = refusal(data)
    assert found == line
    assert part in message


def test_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "MAX_ROWS", 2)
    assert len(rows("id\n1\n2\n")) == 2
    assert refusal("id\n1\n2\n3\n")[0] == 4
    monkeypatch.setattr(csv_file, "MAX_BYTES", 10)
    assert "MB" in refusal("id\n" + "x" * 8)[1]


_cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(_cell.map("x{}".format), _cell, _cell), max_size=8))
def test_what_is_written_is_read_again(cells: Sequence[tuple[str, str, str]]) -> None:
    data = "".join(write([COLUMNS, *cells]))
    assert [tuple(row.cells.values()) for row in rows(data)] == list(cells)


@pytest.mark.parametrize("first", "=+-@\t\r")
def test_what_a_spreadsheet_would_run_is_marked(first: str) -> None:
    (written,) = csv_file.write([(f"{first}1", f"'{first}1", "'", "a=1")])
    (cells,) = csv.reader(io.StringIO(written, newline=""))
    assert cells == [f"'{first}1", f"''{first}1", "'", "a=1"]
