"""An account owns, an actor does. Both are one row today, and no code may rely on that."""

import ast
import re
from pathlib import Path

from django.db.models import Model

from thingscale.accounts.models import Account, Actor, User

ROOT = Path(__file__).parents[2]
SET_HERE = {"api/auth.py", "console/middleware.py"}  # request.account and request.actor


def test_only_one_place_each_of_api_and_console_reads_the_user_of_a_request() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for part in ("api", "console")
        for path in sorted((ROOT / part).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in SET_HERE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "user" and "request" in ast.unparse(node.value)
        # The row itself: the contract's GET /v2/user shows account and actor as one.
        if ast.unparse(node) != "self.request.auth.user"
    }
    assert found == set()


def test_no_page_shows_the_user_of_a_request() -> None:
    """A template that names one of the two stays true when they part."""
    pages = sorted((ROOT / "templates").rglob("*.html"))
    assert len(pages) > 50
    assert [page.name for page in pages if re.search(r"{[{%][^}]*\buser\.", page.read_text())] == []


def test_account_and_actor_have_nothing_in_common_but_the_row() -> None:
    """So that mypy notices when one is taken for the other: it looks at what each of them has."""
    account, actor = fields(Account), fields(Actor)
    assert account & actor == set()
    assert fields(User) - account - actor == {"id"}
    assert {"max_devices", "when_full", "near_limits"} <= account
    assert {"email", "password", "locale", "is_staff", "last_login"} <= actor


def fields(model: type[Model]) -> set[str]:
    return {field.name for field in (*model._meta.concrete_fields, *model._meta.many_to_many)}
