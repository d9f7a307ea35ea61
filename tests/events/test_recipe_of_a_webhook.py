"""The receiver of docs/recipes/webhook.md, as it stands there."""

import os
import re
import subprocess
import sys

from documents import ROOT
from stack import answers, free_port, wait_until

from thingscale.events.transports import Result
from thingscale.events.transports.http import send


def test_it_takes_what_is_signed_and_nothing_else(here: None) -> None:
    page = (ROOT / "docs/recipes/webhook.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    port = free_port()
    environment = os.environ | {"SECRET": "its secret", "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: answers(port), what="the receiver")
        url, body = f"http://127.0.0.1:{port}/hook", '{"status": "wärmer"}'.encode()
        assert send(url, body, "its secret", "1").result is Result.SENT
        refused = send(url, body, "another secret", "2")
        assert (refused.result, refused.answer[:3]) == (Result.FAILED, "401")
    finally:
        process.terminate()
        output = process.communicate(timeout=60)[0].decode()
    assert output.splitlines() == [body.decode(), "not from ThingScale"]
