"""Every text that people see goes through the translations, and each has one."""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "translations.py"
_spec = spec_from_file_location("translations", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
translations: Any = module_from_spec(_spec)
sys.modules["translations"] = translations
_spec.loader.exec_module(translations)

TEMPLATES = translations.ROOT / "templates" / "console"
PAGES = sorted(path for path in (translations.ROOT / "templates").rglob("*.html") if "mail" not in path.parts)
# Names and code, which are the same in every language.
SAME = re.compile(
    r"ThingScale|HTTP|MQTT|CSV|NDJSON|URL|REST|QoS|CPU|POST|KEY|TOKEN|DEVICE|TAG|OpenAPI|Servwatch|/subscribe|\bms\b"
)
SHOWN = {"placeholder", "title", "aria-label", "alt", "data-label", "data-confirm"}
CODE = {"script", "style", "pre", "code"}
# Stands for what a template puts in. It has no letter, so that a word beside it is found.
LETTERS = re.compile(r"[A-Za-z]{2,}")
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w*\}|%%|</?\w+")


class Plain(HTMLParser):
    """Texts of a page that are not translated."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in CODE:
            self._inside.append(tag)
        for name, value in attrs:
            if name in SHOWN:
                self.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.add(data)

    def add(self, text: str) -> None:
        if LETTERS.search(SAME.sub("", text)):
            self.found.append(" ".join(text.split()))


def plain_texts(template: str) -> list[str]:
    template = re.sub(r"\{% blocktranslate.*?\{% endblocktranslate %\}", "", template, flags=re.DOTALL)
    template = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", template, flags=re.DOTALL)
    parser = Plain()
    parser.feed(template)
    return parser.found


def test_what_is_not_translated_is_found() -> None:
    assert plain_texts("<p>{% translate 'A' %}</p><code>abc</code><b>{{ x }}</b> MQTT") == []
    assert plain_texts('<p title="Not this">{% if x %}Nor that{% endif %}</p>') == ["Not this", "Nor that"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(translations.ROOT)))
def test_no_text_of_a_template_is_left_out(path: Path) -> None:
    assert plain_texts(path.read_text()) == []
    words = re.findall(
        r"\|(?:default|yesno|default_if_none|join):(\"[^\"]*[A-Za-z]{2,}[^\"]*\")", path.read_text()
    )
    assert [word for word in words if not re.fullmatch(r'"(checked|ok,bad|true|console/.*)"', word)] == []


def calls() -> Iterator[tuple[str, str]]:
    for path in sorted(translations.STATIC.glob("*.js")):
        for text in re.findall(r'(?:textContent|title) = (?:\w+ \? )?"([^"]+)"', path.read_text()):
            yield path.name, text


def test_no_text_of_a_script_is_left_out() -> None:
    assert [each for each in calls() if LETTERS.search(each[1])] == []


@pytest.mark.parametrize("language", translations.languages())
class TestCatalog:
    def test_has_all_texts_and_no_others(self, language: str) -> None:
        """If not: `make translations`, and translate what is new."""
        kept = translations.read(language)
        marked = translations.updated(language)
        assert {(each.id, each.context) for each in kept} == {(each.id, each.context) for each in marked}

    def test_each_text_is_translated(self, language: str) -> None:
        catalog = [each for each in translations.read(language) if each.id]
        assert [each.id for each in catalog if not translations.is_translated(each.string)] == []
        assert [each.id for each in catalog if each.fuzzy] == []

    def test_what_is_filled_in_is_the_same(self, language: str) -> None:
        for each in translations.read(language):
            source = each.id if isinstance(each.id, str) else each.id[-1]
            for text in [each.string] if isinstance(each.string, str) else each.string:
                assert not each.id or set(PLACEHOLDER.findall(source)) == set(PLACEHOLDER.findall(text))

    def test_what_is_loaded_is_made_of_it(self, language: str) -> None:
        """If not: `make translations`."""
        catalog = translations.read(language)
        folder = translations.LOCALE / language / "LC_MESSAGES"
        assert (folder / "django.po").read_bytes() == translations.as_po(catalog)
        assert (folder / "django.mo").read_bytes() == translations.as_mo(catalog)
        script = translations.STATIC / f"words-{language}.js"
        assert script.read_text() == translations.as_script(catalog)
