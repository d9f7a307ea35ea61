"""The schedule of the periodic tasks, one for all workers: when each was sent last is in Valkey. Whichever
worker first finds one due marks it as sent, in the same step, and sends it. So each is sent once a round, by
Valkey's clock, and when a worker ends the others miss nothing: the next look is within a second.

A worker that is killed between the two loses that round; with Valkey away no task can be sent anyway.
"""

import logging
from typing import Any

import redis
from celery.beat import Scheduler, SchedulingError
from django.conf import settings

log = logging.getLogger(__name__)

KEY = "thingscale:schedule"
LOOK_SECONDS = 1.0
VALKEY_SECONDS = 5

# For names and their intervals in milliseconds: the milliseconds until the next one is due, then the names
# that are due now. One that is new begins its first round; after a long rest one round is due, not all.
CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local next = math.huge
local found = {0}
for i = 1, #ARGV, 2 do
    local interval = tonumber(ARGV[i + 1])
    local last = tonumber(redis.call('HGET', KEYS[1], ARGV[i]))
    if not last or last > now then
        last = now
        redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', last))
    elseif now - last >= interval then
        last = now - (now - last) % interval
        redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', last))
        found[#found + 1] = ARGV[i]
    end
    next = math.min(next, last + interval - now)
end
found[1] = next
return found
"""


class SharedSchedule(Scheduler):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._owed: list[str] = []  # marked as sent, and not sent yet
        self._away = False
        limits = {"socket_timeout": VALKEY_SECONDS, "socket_connect_timeout": VALKEY_SECONDS}
        self._valkey: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, **limits)
        self._claim = self._valkey.register_script(CLAIM)
        super().__init__(*arguments, **options)

    def tick(self, *_arguments: Any, **_options: Any) -> float:
        """Sends what is due; returns the seconds until the next look."""
        try:
            wait = self._look()
            if self._owed:
                self._send()
        except (redis.RedisError, SchedulingError, OSError) as error:
            if not self._away:
                log.warning("Periodic tasks wait: Valkey is away (%s)", type(error).__name__)
            self._away = True
            return LOOK_SECONDS
        self._away = False
        return min(wait, LOOK_SECONDS)

    def _look(self) -> float:
        """Seconds until the next task is due."""
        rounds = {name: _milliseconds(entry) for name, entry in self.schedule.items()}
        words = [word for pair in rounds.items() for word in pair]
        milliseconds, *due = self._claim(keys=[KEY], args=words)
        self._owed += [name.decode() for name in due if name.decode() not in self._owed]
        return float(milliseconds) / 1000

    def _send(self) -> None:
        while self._owed:
            name = self._owed[0]
            log.info("Sending due task %s", name)
            self.apply_async(self.schedule[name], producer=self.producer, advance=False)
            del self._owed[0]

    def close(self) -> None:
        super().close()
        self._valkey.close()


def _milliseconds(entry: Any) -> int:
    seconds: float = entry.schedule.run_every.total_seconds()
    return round(seconds * 1000)
