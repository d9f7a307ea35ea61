"""A gateway that waits for its database."""

import os
import signal
import subprocess
import sys

import pytest
from stack import ROOT, free_port

pytestmark = pytest.mark.e2e


def test_it_can_be_ended_before_the_database_is_there() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql://a:b@{nowhere}/none",
        "REDIS_URL": f"redis://{nowhere}/0",
        "THINGSCALE_MQTT_PORT": str(free_port()),
        "THINGSCALE_MQTT_WS_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "manage.py", "ingest"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        for line in process.stderr:
            if "sessions of clients can't be read" in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
