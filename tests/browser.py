"""Headless Chromium: the one that package-lock.json pins."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
UNPACK = "import('@sparticuz/chromium').then(async m => console.log(await m.default.executablePath()))"
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--disable-quic"]
LANGUAGE = {"LANGUAGE": "en_GB", "LC_ALL": "en_GB.UTF-8"}  # a machine without one has a name no browser takes


@cache
def executable() -> str:
    """Unpacked into the folder for temporary files, once."""
    run = subprocess.run(
        ["node", "-e", UNPACK], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return run.stdout.strip()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable(), args=QUIET, env={**os.environ, **LANGUAGE}
        )
        yield browser
        browser.close()
