"""Recipes of how to be told: their calls, as they stand there, with curl."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest
from documents import ROOT
from stack import Stack
from support import Account

from thingscale.events.actions import create_event
from thingscale.events.models import ContactPoint, Event
from thingscale.intakes.presets import presets

pytestmark = pytest.mark.e2e
RECIPES = ROOT / "docs" / "recipes"


def calls(page: str) -> list[str]:
    text = (RECIPES / page).read_text().replace("\\\n", "")
    return [line for line in text.splitlines() if line.startswith("curl ")]


@pytest.fixture
def call(stack: Callable[..., Stack], account: Account) -> Callable[[str], object]:
    running = stack("web")

    def follow(line: str) -> object:
        line = line.replace("http://127.0.0.1:8000/", running.url("/")).replace(
            "API_TOKEN", account.api_token
        )
        done = subprocess.run(
            ["sh", "-c", f"{line} --fail-with-body -s"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout)

    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    return follow


def test_services(call: Callable[[str], object], account: Account) -> None:
    fields = {"mapped_channel": account.channel(), "source": "temp", "operator": ">", "threshold": "30"}
    event = create_event(account.user, {**fields, "notify_type": "email"})
    make, try_it, choose = calls("services.md")
    made = call(make)
    contact = ContactPoint.objects.get()
    assert made == {"contact_id": contact.pk}
    assert "/v2/contact/1/test" in try_it  # which would go out into the world
    assert choose.count("[1]") == 1
    call(choose.replace("[1]", f"[{contact.pk}]"))
    event.refresh_from_db()
    assert event.notify_type == "none"
    assert list(event.contact_points.all()) == [contact]


def test_silence_quiet_and_mail(call: Callable[[str], object], account: Account) -> None:
    (make,) = calls("silence.md")
    assert call(make) == {"event_id": 1}
    event = Event.objects.get()
    assert (event.kind, event.user_id) == ("silence", account.user.pk)
    (repair,) = calls("quiet.md")
    call(repair)
    (mails,) = calls("mail.md")
    call(mails)
    account.user.refresh_from_db()
    assert (account.user.email1, account.user.email2) == ("me@example.com", "night@example.com")


def test_each_recipe_is_followed_by_a_test() -> None:
    """Those of presets by tests/intakes/test_presets.py and tests/web/test_intake_presets.py."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"[\w-]+\.md", tests)) | {preset.recipe for preset in presets().values()}
    assert {page.name for page in RECIPES.glob("*.md")} <= named
