"""Java's own HTTP client, with its defaults: it offers `Upgrade: h2c` in the first request (row H1)."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from stack import Stack
from support import Account

from thingscale.devices.models import Device

JAVA = shutil.which("java")
PROGRAM = Path(__file__).with_name("JavaClient.java")


@pytest.mark.e2e
@pytest.mark.skipif(not JAVA or not shutil.which("javac"), reason="no JDK 11 or newer")
def test_h1_java_posts_and_puts_with_its_bodies(stack: Callable[..., Stack], account: Account) -> None:
    account.device("d1")
    assert JAVA
    url = stack("web").url("")
    tokens = [account.device_token, account.api_token]
    command = [JAVA, str(PROGRAM), url, *tokens]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split(), done.stderr) == (["OK", "OK", "OK", "200"], "")
    assert account.stored() == [('{"t": 1}', None), ('{"t": 2}', None), ('{"t": 3}', None)]
    assert Device.objects.get(device_id="d1").description == "from Java"
