"""The command servwatch-agent."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from servwatch_agent import __version__, facts
from servwatch_agent import config as settings
from servwatch_agent.agent import Agent, Measuring, plain
from servwatch_agent.buffer import InUse
from servwatch_agent.config import BadConfig, Config
from servwatch_agent.connector import Unavailable, tls_context, why
from servwatch_agent.http import Http
from servwatch_agent.mqtt import Mqtt

STANDARD = Path("/etc/servwatch-agent.ini")


def main() -> NoReturn:
    parser = argparse.ArgumentParser(
        prog="servwatch-agent", description="Measures this machine, and sends what it finds to ThingScale."
    )
    parser.add_argument("--config", type=Path, help=f"standard: {STANDARD}, if there is one")
    parser.add_argument("--once", action="store_true", help="print what it would send, and end")
    parser.add_argument("--check", action="store_true", help="say whether configuration and network work")
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args()
    if options.once:
        leave(once(options.config))
    try:
        config = load(options.config)
    except BadConfig as error:
        leave(_failed(str(error)))
    if options.check:
        leave(asyncio.run(check(config)))
    logging.basicConfig(level=logging.INFO, format=_log_format(), stream=sys.stderr)
    try:
        asyncio.run(run(config))
    except InUse as error:
        leave(_failed(str(error)))


def load(path: Path | None) -> Config:
    return settings.load(path or (STANDARD if STANDARD.exists() else None), os.environ)


def leave(status: int) -> NoReturn:
    """At once: a thread may hang on a disk that is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


async def run(config: Config) -> NoReturn:
    """Until SIGTERM or SIGINT."""
    log = logging.getLogger(__name__)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    agent = Agent(config)
    log.info(
        "servwatch-agent %s: %s to %s every %g s. %d samples wait.",
        __version__,
        config.host_id,
        config.server,
        config.interval,
        agent.buffer.waiting,
    )
    try:
        await agent.run(stop)
    except Exception:  # of any kind: systemd starts it again
        log.exception("The agent ends.")
        leave(1)
    leave(0)  # without waiting for a name server that does not answer


def once(path: Path | None) -> int:
    """Needs no configuration: without one, it prints what there is without."""
    try:
        config = load(path)
    except BadConfig as error:
        if path:
            return _failed(str(error))
        config = Config("localhost", "", "", socket.gethostname())
    measuring = Measuring(config, lambda: 0.5, process_seconds=0.5)
    measuring.wait(10)

    async def sample() -> object:
        await measuring.sample()
        await asyncio.sleep(1.5)  # for the rates
        return {"interval": plain(config.interval), **await measuring.sample()}

    sent = {
        f"TOKEN/json/{config.host_id}": asyncio.run(sample()),
        f"TOKEN/state/{config.host_id}": facts.gather(config.server, config.mqtt_port),
    }
    sys.stdout.write(json.dumps(sent, indent=2, ensure_ascii=False) + "\n")
    return 0


async def check(config: Config) -> int:
    """In sentences; 0 if all is well."""
    failed = False

    def say(good: bool, sentence: str) -> None:
        nonlocal failed
        failed |= not good
        sys.stdout.write(f"{'ok    ' if good else 'FAILED'}  {sentence}\n")
        sys.stdout.flush()

    say(True, f"The configuration can be read: {config.host_id} sends to {config.server}.")
    try:
        config.buffer.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = config.buffer / f"check-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
        say(True, f"Samples can be kept in {config.buffer}.")
    except OSError as error:
        say(False, f"Samples can't be kept in {config.buffer}: {error.strerror}.")
    try:
        tls_context(config)
    except OSError as error:
        say(False, f"The certificates in {config.ca_file} can't be read: {why(error)}.")
        return 1
    secured = "with TLS" if config.tls else "without TLS: whoever is in between can read the device token"
    if config.connector != settings.HTTP:
        mqtt = Mqtt(config, f"check{time.time_ns() % 10**6}", lambda kind, payload: None)
        try:
            await mqtt.open()
            say(True, f"MQTT at {config.server}:{config.mqtt_port} takes user and device token, {secured}.")
        except Unavailable as error:
            say(False, str(error))
        with contextlib.suppress(Exception):
            await mqtt.close(answered=True)
    if config.connector != settings.MQTT:
        good, sentence = await asyncio.get_running_loop().run_in_executor(None, _check_http, Http(config))
        say(good, sentence if not good else f"{sentence}, {secured}.")
    return int(failed)


def _check_http(http: Http) -> tuple[bool, str]:
    """By a body of a form that nobody knows: it is refused for that only if the token is good, and nothing
    of it is kept."""
    try:
        answer = http.request(b"", {"Content-Encoding": "check"})
    except Exception as error:  # of any kind: it is what is to be said
        return False, f"{http.where}: {why(error)}."
    if answer.code == "AUTH_REQUIRED":
        return False, f"{http.where}: the device token is wrong."
    if answer.code in ("UNSUPPORTED_ENCODING", "DEVICE_DISABLED", "TOO_MANY_REQUESTS"):
        return True, f"{http.where} takes the device token"
    return False, f"{http.where}: it answered {answer.status}, as ThingScale would not."


def _failed(sentence: str) -> int:
    sys.stderr.write(f"servwatch-agent: {sentence}\n")
    return 1


def _log_format() -> str:
    """systemd's journal has the time already."""
    return "%(message)s" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s %(levelname)s %(message)s"
