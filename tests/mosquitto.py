"""Mosquitto, where it is installed: the broker of an operator's own."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stack import answers, free_port, wait_until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
CONFIG = """
listener {port} 127.0.0.1
allow_anonymous {anonymous}
max_inflight_messages 0
max_queued_messages 0
persistence false
"""

needs_mosquitto = pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed")


@contextmanager
def run_mosquitto(port: int = 0, password: str = "") -> Iterator[int]:
    """Its port, for all versions of MQTT. With a password it takes a user `worker` only."""
    assert MOSQUITTO
    folder, port = Path(tempfile.mkdtemp(prefix="thingscale-mosquitto-")), port or free_port()
    folder.chmod(0o755)  # started by root, it takes the user `mosquitto`
    config, passwords = folder / "mosquitto.conf", folder / "passwords"
    text = CONFIG.format(port=port, anonymous="false" if password else "true")
    if password:
        subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "worker", password], check=True)
        passwords.chmod(0o644)
        text += f"password_file {passwords}\n"
    config.write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(port), 60, "mosquitto")
        yield port
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)
