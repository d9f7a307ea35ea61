"""`make translations`: the texts of pages and scripts into the translations, and those into what is loaded.

    python scripts/translations.py

Finds every text that is marked in templates, Python and JavaScript, and adds it to django.po of each
language. Texts that are gone leave it. Then it writes django.mo, for Django, and words-<language>.js, for
scripts: both are kept in Git, so that nobody needs gettext to install or to start
(docs/decisions/0048-languages.md).
"""

import ast
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import django
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "thingscale" / "locale"
STATIC = ROOT / "static" / "console"
KEYWORDS = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy", "gettext_noop"), None),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (1, 2)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), ((1, "c"), 2)),
}
_TEXT = r"""u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
# What Django makes of a template: nothing but these calls stays of it.
_CALL = re.compile(rf"\b(_|n?p?gettext)\(\s*{_TEXT}(?:\s*,\s*{_TEXT})?")


class Text(NamedTuple):
    place: str
    singular: str
    plural: str = ""
    context: str = ""


def of_templates() -> Iterator[Text]:
    from django.utils.translation.template import templatize

    folder = ROOT / "templates"
    for path in sorted((*folder.rglob("*.html"), *(folder / "mail").glob("*.txt"))):
        place = str(path.relative_to(ROOT))
        for call, *texts in _CALL.findall(templatize(path.read_text(), origin=place)):
            first, second = (ast.literal_eval(text) if text else "" for text in texts)
            match call:
                case "ngettext":
                    yield Text(place, first, second)
                case "pgettext":
                    yield Text(place, second, context=first)
                case _:
                    yield Text(place, first)


def of_python() -> Iterator[Text]:
    for folder in ("console", "thingscale"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = str(path.relative_to(ROOT))
            for _, texts, _, context in extract("python", io.BytesIO(path.read_bytes()), KEYWORDS):
                first, second = (texts, "") if isinstance(texts, str) else texts[-2:]
                yield Text(place, first, second or "", context or "")


def of_scripts() -> Iterator[Text]:
    for path in sorted(STATIC.glob("*.js")):
        if not path.name.startswith("words"):
            place = str(path.relative_to(ROOT))
            for _, text, _, _ in extract("javascript", io.BytesIO(path.read_bytes()), {"t": None}):
                yield Text(place, str(text))


def of_data() -> Iterator[Text]:
    """Texts where nothing can mark them: of modules without Django, and of files."""
    from thingscale.accounts.notices import Notice
    from thingscale.hosts.metrics import NAMES
    from thingscale.intakes.guides import GUIDES
    from thingscale.intakes.presets import presets
    from thingscale.lib.names import DEVICE_ID_RULE, ENDS_RULE, TAG_RULE
    from thingscale.lib.reasons import ANSWERS

    for notice in Notice:
        yield Text("thingscale/accounts/notices.py", notice.value)
    for rule in (DEVICE_ID_RULE, ENDS_RULE, TAG_RULE):
        yield Text("thingscale/lib/names.py", rule)
    for name in NAMES.values():
        if " " in name:  # others are names of programs
            yield Text("thingscale/hosts/metrics.py", name)
    for answer in ANSWERS.values():
        yield Text("thingscale/lib/reasons.py", answer.sentence)
    for place, programs in (("guides.py", GUIDES), ("presets", presets())):
        for program in programs.values():
            for text in (program.description, *(paste.label for paste in program.paste)):
                if " " in text:  # others are names of files
                    yield Text(f"thingscale/intakes/{place}", text)


def marked() -> Catalog:
    catalog = Catalog(fuzzy=False)
    for text in (*of_templates(), *of_python(), *of_scripts(), *of_data()):
        msgid: Any = (text.singular, text.plural) if text.plural else text.singular
        is_format = "python-format" if re.search(r"%\(\w+\)", text.singular) else ""
        # Where one text has a plural in one place and none in another, it has one.
        known = catalog.get(text.singular, text.context or None)
        if known and not text.plural and known.pluralizable:
            msgid = known.id
        catalog.add(
            msgid,
            locations=[(text.place, 0)],
            flags=[is_format] if is_format else [],
            context=text.context or None,
        )
    return catalog


def read(language: str) -> Catalog:
    with (LOCALE / language / "LC_MESSAGES" / "django.po").open("rb") as file:
        return read_po(file, locale=language)


def as_po(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    # Without places: each text that moves would change the file, and two branches at once.
    write_po(file, catalog, width=110, no_location=True, ignore_obsolete=True, sort_output=True)
    return file.getvalue()


def updated(language: str) -> Catalog:
    """The translations with all texts that are marked, and no others."""
    catalog = read(language)
    catalog.update(marked(), no_fuzzy_matching=True, update_creation_date=False)
    catalog.obsolete.clear()
    return catalog


def as_mo(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def as_script(catalog: Catalog) -> str:
    wanted = {text.singular for text in of_scripts()}
    words = {each.id: each.string for each in catalog if each.id in wanted and each.string}
    text = json.dumps(dict(sorted(words.items())), ensure_ascii=False, indent=2)
    return f"// Written by `make translations`.\nglobalThis.words = {text};\n"


def languages() -> list[str]:
    return sorted(path.name for path in LOCALE.iterdir())


def main() -> None:
    for language in languages():
        folder = LOCALE / language / "LC_MESSAGES"
        (folder / "django.po").write_bytes(as_po(updated(language)))
        catalog = read(language)
        (folder / "django.mo").write_bytes(as_mo(catalog))
        (STATIC / f"words-{language}.js").write_text(as_script(catalog))
        missing = [each for each in catalog if each.id and not is_translated(each.string)]
        sys.stdout.write(f"{language}: {len(catalog)} texts, {len(missing)} without a translation\n")


def is_translated(string: object) -> bool:
    return all(string) if isinstance(string, tuple | list) else bool(string)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
    django.setup()
    main()
