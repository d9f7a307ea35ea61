"""The page of `make bench`: made of what the parts recorded, and of those that did not get that far."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
Modules = SimpleNamespace
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def bench() -> Iterator[Modules]:
    """The scripts' modules: `common`, `report` and `suite`. They find each other as scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setattr(django, "setup", lambda: None)  # done already; again, it would set up logging anew
        yield Modules(**{name: importlib.import_module(name) for name in ("common", "report", "suite")})


@pytest.fixture
def records(tmp_path: Path, monkeypatch: Patch, bench: Modules) -> Path:
    """Where results and notes go, those of part `pages` unless a test says otherwise."""
    path = tmp_path / "records"
    path.touch()
    monkeypatch.setenv(bench.common.RECORDS, str(path))
    monkeypatch.setattr(sys, "argv", ["benchmarks/pages.py"])
    return path


def result(bench: Modules, values: list[float], *bars: Any, what: str = "a page", **fields: Any) -> Any:
    given: dict[str, Any] = {"part": "pages", "unit": "/s", "ratio": None, "of": "COPY"}
    given |= {"p50": None, "p99": None, "cpu_us": {}}
    return bench.common.Result(what=what, values=values, bars=bars, **(given | fields))


def rows(text: str) -> list[list[str]]:
    """Of the tables in a page, without the lines below their heads."""
    found = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return [line.split(" | ") for line in found if not line.startswith("---")]


# Records


def test_what_was_recorded_is_read(bench: Modules, records: Path) -> None:
    bars = [bench.common.at_least(0.3, "ratio"), bench.common.at_most(20, "p99")]
    times = [{"web": 7.0, "backends": 3.0}, {"web": 9.0, "backends": 1.0}]
    runs: dict[str, Any] = {"ceiling": [400, 600], "of": "raw", "p50": [1, 2], "p99": [5, 7], "cpu_us": times}
    bench.common.record("a page", [100, 300, 200], "/s", *bars, **runs)
    bench.common.note("Nothing was skipped.")
    found = bench.report.read(records)
    assert found.notes == [("pages", "Nothing was skipped.")]
    (one,) = found.results
    assert (one.part, one.what, one.unit, one.of) == ("pages", "a page", "/s", "raw")
    assert (one.values, one.measured, one.ratio) == ([100, 300, 200], 200, 0.4)
    assert (one.p50, one.p99, one.cpu_us) == (1.5, 6, {"web": 8, "backends": 2})
    assert one.bars == bars


def test_what_was_not_measured_stays_away(bench: Modules, records: Path) -> None:
    bench.common.record("memory", [250], "MB")
    (one,) = bench.report.read(records).results
    assert (one.ratio, one.p50, one.p99, one.cpu_us, one.bars) == (None, None, None, {}, [])


def test_without_a_file_it_is_only_printed(
    bench: Modules, records: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(bench.common.RECORDS)
    bench.common.record("memory", [250], "MB", bench.common.at_most(200))
    assert capsys.readouterr().out == "memory: 250 MB; missed: ≤ 200 MB\n"
    assert records.read_text() == ""


# Bars


@pytest.mark.parametrize(
    ("make", "figure", "limit", "kept"),
    [
        ("at_least", "measured", 200, True),
        ("at_least", "measured", 201, False),
        ("at_most", "measured", 200, True),
        ("at_most", "measured", 199, False),
        ("at_least", "ratio", 0.4, True),
        ("at_least", "ratio", 0.5, False),
        ("at_most", "p99", 9, True),
        ("at_most", "p99", 8, False),
    ],
)
def test_a_bar_is_kept_or_missed(bench: Modules, make: str, figure: str, limit: float, kept: bool) -> None:
    """The median counts, and the limit itself is kept."""
    bar = getattr(bench.common, make)(limit, figure)
    one = result(bench, [900, 100, 200], bar, ratio=0.4, p99=9)
    assert one.missed == ([] if kept else [bar.text(one)])
    assert bench.report.verdict(one) == ("kept" if kept else "**missed**")


def test_bars_say_what_they_are_of(bench: Modules) -> None:
    common = bench.common
    bars = common.at_least(80_000), common.at_least(0.45, "ratio"), common.at_most(15, "p99")
    one = result(bench, [1], *bars)
    assert [bar.text(one) for bar in bars] == ["≥ 80,000/s", "≥ 0.45 × COPY", "p99 ≤ 15 ms"]
    assert common.at_most(400).text(result(bench, [1], unit="MB")) == "≤ 400 MB"


def test_one_missed_bar_of_two_is_missed(bench: Modules) -> None:
    one = result(bench, [5], bench.common.at_least(4), bench.common.at_least(6))
    assert bench.report.verdict(one) == "**missed**"
    assert bench.report.verdict(result(bench, [5])) == ""


# The page


def test_the_summary_counts_bars_and_names_what_missed(bench: Modules) -> None:
    at_least = bench.common.at_least
    both = result(bench, [5], at_least(4), at_least(6), what="a page")
    none = result(bench, [5], at_least(8), at_least(9), what="a file")
    fine = result(bench, [5], at_least(5), what="a chart")
    summary = bench.report.summary
    assert summary(bench.report.Records([fine], []), []) == "1 of 1 bars are kept."
    text = summary(bench.report.Records([both, none, fine], []), ["idle", "charts"])
    assert text == "2 of 5 bars are kept. Missed: a page; a file. Did not finish: idle, charts."


def test_a_row_has_all_that_was_measured(bench: Modules) -> None:
    seen: dict[str, Any] = {"p50": 1.234, "p99": 150, "cpu_us": {"gateway": 18.25, "store": 4}}
    one = result(bench, [1234, 2000, 99.4], bench.common.at_least(1000), ratio=0.4567, **seen)
    head, row = rows(bench.report.table([bench.report.cells(one)]))
    assert dict(zip(head[:-1], row, strict=False)) == {
        "what": "a page",
        "bar": "≥ 1,000/s",
        "measured": "1,234/s (99.4 to 2,000)",
        "ratio": "0.457 × COPY",
        "p50": "1.23",
        "p99": "150",
        "CPU": "gateway 18.2, store 4",
    }
    assert row[-1] == "kept"


def test_columns_that_are_empty_are_left_out(bench: Modules) -> None:
    cells = bench.report.cells
    table = bench.report.table([cells(result(bench, [5])), cells(result(bench, [6], p99=2, what="a file"))])
    assert table.splitlines() == [
        "| what | measured | p99 |",
        "| --- | --- | --- |",
        "| a page | 5/s |  |",
        "| a file | 6/s | 2 |",
    ]
    assert bench.report.table([]) == ""


def test_each_part_has_its_own_notes_and_rows(bench: Modules) -> None:
    results = [result(bench, [5], part="pages"), result(bench, [6], part="idle", what="memory", unit="MB")]
    notes = [("idle", "Quiet."), ("idle", "Very quiet."), ("charts", "Of a part that was not asked for.")]
    text = bench.report.page(bench.report.Records(results, notes), ["pages", "idle", "batches"], [], False)
    parts = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(parts) == ["pages", "idle", "batches"]
    assert rows(parts["pages"]) == [["what", "measured"], ["a page", "5/s"]]
    assert rows(parts["idle"]) == [["what", "measured"], ["memory", "6 MB"]]
    assert "\n\n- Quiet.\n- Very quiet.\n\n| what" in parts["idle"]
    assert "Quiet" not in parts["pages"]
    assert parts["batches"].strip() == bench.report.title("batches")  # it recorded nothing
    assert "not asked for" not in text


def test_a_short_run_says_so_first(bench: Modules) -> None:
    empty = bench.report.Records([], [])
    short, full = (bench.report.page(empty, [], [], short) for short in (True, False))
    assert "**A short run, to try the programs: its figures mean nothing.** 0 of 0 bars" in short
    assert "short run" not in full
    assert "never by hand. 0 of 0 bars are kept.\n" in full


def test_every_part_is_a_script_that_says_what_it_measures(bench: Modules) -> None:
    for part in bench.suite.PARTS:
        title = bench.report.title(part.name)
        assert title.endswith(".")
        assert "\n" not in title
        assert "  " not in title  # as in the commands below it


# The suite


@pytest.fixture
def root(tmp_path: Path, monkeypatch: Patch, bench: Modules) -> Path:
    """A project whose `manage.py` and benchmarks are what a test writes."""
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(bench.suite, "ROOT", tmp_path)
    monkeypatch.setattr(bench.suite, "PAGE", tmp_path / "page.md")
    return tmp_path


@pytest.fixture
def main(bench: Modules, root: Path, monkeypatch: Patch) -> Callable[..., int]:
    """`make bench`, whose parts record one figure each, that keeps its bar if it is not the `slow` one's, or
    don't come to their end. Returns the exit status."""

    def main(*arguments: str, slow: str = "", failing: str = "") -> int:
        def run(part: Any, short: bool, path: Path) -> bool:
            if part.name != failing:
                monkeypatch.setenv(bench.common.RECORDS, str(path))
                monkeypatch.setattr(sys, "argv", [f"{part.name}.py"])
                at_least = bench.common.at_least(10)
                bench.common.record(f"{part.name}, once", [9 if part.name == slow else 10], "/s", at_least)
            return bool(part.name != failing)

        monkeypatch.setattr(bench.suite, "run", run)
        monkeypatch.setattr(sys, "argv", ["suite.py", *arguments])
        with pytest.raises(SystemExit) as end:
            bench.suite.main()
        return int(end.value.code or 0)

    return main


def test_all_parts_make_the_page(bench: Modules, main: Callable[..., int], root: Path) -> None:
    assert main() == 0
    text = (root / "page.md").read_text()
    assert re.findall(r"^## (\w+)", text, re.MULTILINE) == [part.name for part in bench.suite.PARTS]
    assert f"{len(bench.suite.PARTS)} of {len(bench.suite.PARTS)} bars are kept.\n" in text
    assert "short run" not in text


def test_a_part_that_fails_stops_no_other_and_is_named(
    bench: Modules, main: Callable[..., int], root: Path
) -> None:
    assert main("--short", failing="batches") == 1
    text = (root / "page.md").read_text()
    assert "Did not finish: batches.\n" in text
    assert "batches, once" not in text
    assert f"{bench.suite.PARTS[-1].name}, once" in text
    assert "short run" in text


def test_a_run_in_which_nothing_was_recorded(
    main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("batches", failing="batches") == 1
    assert "0 of 0 bars are kept. Did not finish: batches." in capsys.readouterr().out


def test_a_missed_bar_is_no_success(main: Callable[..., int], root: Path) -> None:
    assert main(slow="idle") == 1
    assert "Missed: idle, once.\n" in (root / "page.md").read_text()


def test_some_parts_are_printed_and_the_file_stays(
    main: Callable[..., int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "page.md").write_text("of a whole run")
    assert main("pages", "idle") == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^## (\w+)", printed, re.MULTILINE) == ["idle", "pages"]
    assert (root / "page.md").read_text() == "of a whole run"


def test_an_unknown_part_is_refused_before_anything_runs(
    main: Callable[..., int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("pages", "nonsense", "else") == 2
    printed = capsys.readouterr()
    assert "there is no else, nonsense" in printed.err
    assert "once" not in printed.out


def test_the_file_is_replaced_as_a_whole(bench: Modules, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("old")
    with path.open() as reader:
        bench.suite.replace(path, "new")
        assert (reader.read(), path.read_text()) == ("old", "new")
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_not_be_written_leaves_the_old_file(bench: Modules, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        bench.suite.replace(path, "half of it, \ud800")
    assert path.read_text() == "old"


def script(root: Path, text: str, name: str = "benchmarks/one.py") -> None:
    (root / name).write_text(f"import os, sys, time\nfrom pathlib import Path\n{text}\n")


def say(bench: Modules) -> str:
    """A line of a script: its arguments go where its records would."""
    return f"Path(os.environ['{bench.common.RECORDS}']).write_text(' '.join(sys.argv[1:]))"


@pytest.mark.parametrize(("short", "seen"), [(True, "--runs 1"), (False, "")])
def test_a_part_gets_its_arguments_and_the_place_of_records(
    bench: Modules, root: Path, short: bool, seen: str
) -> None:
    script(root, say(bench))
    assert bench.suite.run(bench.suite.Part("one", "--runs 1", None), short, root / "records")
    assert (root / "records").read_text() == seen


def test_a_part_gets_the_servers_that_it_needs(bench: Modules, root: Path) -> None:
    script(root, say(bench), "manage.py")
    assert bench.suite.run(bench.suite.Part("one", "--runs 1", "postgres,valkey"), True, root / "records")
    started, own = (root / "records").read_text().split(" -- ")
    assert started == "with_servers --only postgres,valkey"
    assert own == f"{sys.executable} benchmarks/one.py --runs 1"


def test_a_part_that_ends_badly_has_failed(bench: Modules, root: Path) -> None:
    script(root, "sys.exit(3)")
    assert not bench.suite.run(bench.suite.Part("one", "", None), False, root / "records")


@pytest.mark.parametrize("first", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
def test_a_part_that_does_not_end_is_stopped(
    bench: Modules, root: Path, monkeypatch: Patch, first: str
) -> None:
    monkeypatch.setattr(bench.suite, "LIMIT_SECONDS", 0.5)
    monkeypatch.setattr(bench.suite, "STOP_SECONDS", 0.5)
    script(root, f"{first}time.sleep(600)")
    assert not bench.suite.run(bench.suite.Part("one", "", None), False, root / "records")
