"""Tells systemd how this process is (sd_notify(3)), if it started it by a unit with Type=notify.

READY=1 comes when all of it works, so that units with After= wait for it. With WatchdogSec= it is started
again when it hangs, or when one of its threads fails and does not recover.
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping, Sequence

EXTEND_SECONDS = 60  # longer, while it still starts
QUICK_SECONDS = 10.0  # between two signs of life, without a watchdog


class ServiceManager:
    """The variables are taken out of the environment: they are not meant for processes that this one starts.
    Without them all this does nothing."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        limit = environment.pop("WATCHDOG_USEC", "")
        meant_for = environment.pop("WATCHDOG_PID", "")
        # Of several web processes the unit knows only the one that started them.
        ours = not meant_for or meant_for in {str(os.getpid()), str(os.getppid())}
        self._guarded = ours and limit.isdecimal() and int(limit) > 0
        self.interval = int(limit) / 3_000_000 if self._guarded else QUICK_SECONDS
        self._alive_at = 0.0
        self._status = ""
        self._is_ready = False

    @property
    def present(self) -> bool:
        return bool(self._address)

    def ready(self) -> None:
        self._is_ready = True
        self._send("READY=1\nSTATUS=ready")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def alive(self, failing: Sequence[str] = ()) -> None:
        """To be called more often than every `interval` seconds, from what must not hang. Where parts fail,
        there is no sign of life, and their names are in the unit's status."""
        now = time.monotonic()
        if not self._address or now - self._alive_at < self.interval / 2:
            return
        self._alive_at = now
        status = f"failing: {', '.join(failing)}" if failing else "ready" if self._is_ready else "starting"
        lines = [f"STATUS={status}"] if status != self._status else []
        self._status = status
        if not self._is_ready:
            lines.append(f"EXTEND_TIMEOUT_USEC={EXTEND_SECONDS * 1_000_000}")
        if self._guarded and not failing:
            lines.append("WATCHDOG=1")
        if lines:
            self._send("\n".join(lines))

    def _send(self, text: str) -> None:
        """Nobody waits for it: what systemd does not take is lost."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(text.encode(), address)
