"""`make shape`: how hard our code is to read, in figures, and on request the functions behind them.

    python scripts/shape.py [--tree CHECKOUT] [--list]     static, also for an older checkout
    python scripts/shape.py --ways                         and what one message, read or page runs through

`--ways` starts servers of its own, and touches no other database. `make shape` asks for it.

What is counted:

- Files: `*.py` in `api`, `console`, `ingest` and `thingscale`, without migrations; an empty `__init__.py` is
  one. Tests, benchmarks and scripts are left out altogether: a use in a test is no reference.
- Functions: each `def` and `async def`: methods, nested functions, decorated functions and the stubs of a
  Protocol as well. A lambda belongs to the function around it. A length is that of what a reader opens: from
  the `def` line, decorators apart, to the last line, with docstring, comments and nested functions.
- Private: the name begins with one underscore.
- Reference: a name that is read, called or not, as `f` or as `something.f`, and a text that is exactly `f`
  (for `getattr`, and where Django wants names as text). An import is none, nor is what stands inside the
  function itself. `f` counts for the functions of that name in its own file, or in any file if it was
  imported. `something.f` counts for every function of that name in its own file, and if there is none, in
  any file. Types are not looked at: where two functions share a name, each has the references of both. So
  "referenced once" is a lower bound.
- Django, a decorator, a template or a base class may call a public function that nothing refers to, or that
  only a table refers to. So read "any function referenced once" (without `__names__`) with care; "private
  helpers referenced once" is the figure to bring down.
- A class name stands for two things if it is defined twice. `Meta` and `Command` are Django's, not ours.
- Loose files: Python files in `thingscale/` itself, `__init__.py` apart.
- Ways: distinct functions and files of ours, and changes of file from one call to the next (tests/ways.py).
"""

import argparse
import ast
import math
import os
import secrets
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("api", "console", "ingest", "thingscale")
DJANGOS_CLASSES = {"Meta", "Command"}

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


class Reference(NamedTuple):
    file: str
    line: int
    name: str
    dotted: bool  # `something.name`, or a text
    caller: str  # the innermost function around it; "" at the level of the module or a class
    within: tuple[AnyFunction, ...]  # all functions around it, outermost first


class Function(NamedTuple):
    file: str
    name: str
    qualified: str  # with its class and the functions around it
    node: AnyFunction

    @property
    def length(self) -> int:
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1

    @property
    def is_dunder(self) -> bool:
        return self.name.startswith("__") and self.name.endswith("__")

    @property
    def is_private(self) -> bool:
        return self.name.startswith("_") and not self.is_dunder


class Module(ast.NodeVisitor):
    """What one file defines, imports and refers to."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = len(text.splitlines())
        self.functions: list[Function] = []
        self.classes: list[str] = []
        self.imported: dict[str, str] = {}  # name here -> name there
        self.references: list[Reference] = []
        self._names: list[str] = []  # of the classes and functions around
        self._around: list[AnyFunction] = []
        self.visit(ast.parse(text, file))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.classes.append(node.name)
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()

    def visit_FunctionDef(self, node: AnyFunction) -> None:
        for decorator in node.decorator_list:  # they run outside
            self.visit(decorator)
        self._names.append(node.name)
        self.functions.append(Function(self.file, node.name, ".".join(self._names), node))
        self._around.append(node)
        for child in (node.args, *filter(None, [node.returns]), *node.body):
            self.visit(child)
        self._around.pop()
        self._names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imported |= {alias.asname or alias.name: alias.name for alias in node.names}

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._refer(node, node.id, dotted=False)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            self._refer(node, node.attr, dotted=True)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and node.value.isidentifier():
            self._refer(node, node.value, dotted=True)

    def _refer(self, node: ast.expr, name: str, dotted: bool) -> None:
        caller = ".".join(self._names) if self._around else ""
        self.references.append(Reference(self.file, node.lineno, name, dotted, caller, tuple(self._around)))


class Tree:
    def __init__(self, root: Path) -> None:
        paths = [path for name in PACKAGES for path in (root / name).rglob("*.py")]
        self.modules = [
            Module(str(path.relative_to(root)), path.read_text())
            for path in sorted(paths)
            if "migrations" not in path.parts
        ]
        self.functions = [function for module in self.modules for function in module.functions]
        self.loose = sorted(p.name for p in (root / "thingscale").glob("*.py") if p.name != "__init__.py")

    def references(self) -> dict[Function, list[Reference]]:
        """Of each function, apart from what stands inside it."""
        everywhere: dict[str, list[Function]] = defaultdict(list)
        for function in self.functions:
            everywhere[function.name].append(function)
        found: dict[Function, list[Reference]] = {function: [] for function in self.functions}
        for module in self.modules:
            here: dict[str, list[Function]] = defaultdict(list)
            for function in module.functions:
                here[function.name].append(function)
            for reference in module.references:
                if reference.dotted:
                    meant = here[reference.name] or everywhere[reference.name]
                elif reference.name in module.imported:
                    meant = everywhere[module.imported[reference.name]]
                else:
                    meant = here[reference.name]
                for function in meant:
                    if function.node not in reference.within:
                        found[function].append(reference)
        return found

    def shared_class_names(self) -> dict[str, list[str]]:
        places: dict[str, list[str]] = defaultdict(list)
        for module in self.modules:
            for name in module.classes:
                places[name].append(module.file)
        return {n: files for n, files in places.items() if len(files) > 1 and n not in DJANGOS_CLASSES}


def distribution(lengths: Sequence[int]) -> str:
    """median / 90th percentile / longest"""
    ordered = sorted(lengths)
    return " / ".join(f"{ordered[math.ceil(share * len(ordered)) - 1]:,}" for share in (0.5, 0.9, 1))


def share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / (whole or 1):.1%})"


def static_figures(tree: Tree) -> Iterator[tuple[str, str]]:
    references = tree.references()
    once = [function for function, found in references.items() if len(found) == 1 and not function.is_dunder]
    used_once = [function for function in once if function.is_private]
    of_package = Counter(function.file.split("/")[0] for function in tree.functions)
    shared = tree.shared_class_names()
    yield "files", f"{len(tree.modules):,}"
    yield "lines", f"{sum(module.lines for module in tree.modules):,}"
    yield "lines of a file (median / p90 / max)", distribution([module.lines for module in tree.modules])
    yield "functions", f"{len(tree.functions):,}"
    yield "lines of a function (median / p90 / max)", distribution([f.length for f in tree.functions])
    yield "private helpers referenced once", share(len(used_once), len(tree.functions))
    for package in PACKAGES:
        inside = sum(function.file.startswith(f"{package}/") for function in used_once)
        yield f"    in {package}", share(inside, of_package[package])
    yield "any function referenced once", share(len(once), len(tree.functions))
    yield "class names for two things", f"{len(shared)}: {', '.join(sorted(shared))}"
    yield "loose files in thingscale/", f"{len(tree.loose)}: {', '.join(tree.loose)}"


def lists(tree: Tree) -> Iterator[str]:
    """Markdown: the functions that are referenced once, private ones first, by directory."""
    once = {f: found[0] for f, found in tree.references().items() if len(found) == 1 and not f.is_dunder}
    for title, private in (
        ("Private helpers referenced once", True),
        ("Other functions referenced once", False),
    ):
        chosen = [function for function in once if function.is_private == private]
        yield f"# {title}: {len(chosen)}\n"
        folders: dict[str, list[Function]] = defaultdict(list)
        for function in chosen:
            folders[str(Path(function.file).parent)].append(function)
        for folder, functions in sorted(folders.items()):
            yield f"## {folder}: {len(functions)}\n"
            yield "| file | function | lines | where it is used |\n|---|---|---|---|"
            for function in functions:
                use = once[function]
                elsewhere = f"`{use.file}`, " if use.file != function.file else ""
                where = (
                    f"{elsewhere}{f'`{use.caller}`' if use.caller else 'outside functions'}, line {use.line}"
                )
                name = f"{Path(function.file).name}:{function.node.lineno}"
                yield f"| {name} | `{function.qualified}` | {function.length} | {where} |"
            yield ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tree", type=Path, default=ROOT, help="a checkout; default: this one")
    parser.add_argument("--list", action="store_true", help="print the functions that are referenced once")
    parser.add_argument("--ways", action="store_true", help="trace ways through the running platform, too")
    options = parser.parse_args()
    if options.ways and options.tree.resolve() != ROOT:
        parser.error("--ways traces the checkout that this script is in; leave --tree away")
    tree = Tree(options.tree.resolve())
    if options.list:
        say(*lists(tree))
        return 0
    say(*(f"{title:42} {figure}" for title, figure in static_figures(tree)))
    if options.ways:
        say("", "ways: functions, files, changes of file")
        for line in ways():
            say(line)
    return 0


def ways() -> Iterator[str]:
    """On private servers, whatever databases the environment names."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "gateway")]
    from thingscale.local.servers import Servers

    with Servers(fast=True) as urls, tempfile.TemporaryDirectory() as folder:
        os.environ |= urls | {
            "DJANGO_SETTINGS_MODULE": "thingscale.settings",
            "THINGSCALE_SECRET_KEY": secrets.token_hex(32),
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from support import make_account
        from ways import all_ways

        account = make_account("owner@example.com")
        account.device("d1")
        for way in all_ways(account, Path(folder)):
            trace = way.shortest
            yield f"{way.name:52} {trace.functions:4} {trace.files:4} {trace.changes:4}"


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
