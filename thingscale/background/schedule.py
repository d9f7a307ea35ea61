"""The schedule of periodic tasks, which all workers share: Valkey has the time at which each was sent last.
The worker that first finds a task due marks it as sent in the same step, and sends it. So each task is sent
once a round, by Valkey's clock. When a worker ends, another one sends the next task within a second.

A worker that is killed between marking and sending loses that round. While Valkey is away, no task can be
sent anyway.
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

# Gets names and their intervals in milliseconds. Returns the milliseconds until the next task is due, and the
# names of those that are due now. A new task begins its first round. After a long pause one round is due, not
# all.
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
        self._unsent: list[str] = []  # marked as sent, but not sent yet
        self._away = False
        limits = {"socket_timeout": VALKEY_SECONDS, "socket_connect_timeout": VALKEY_SECONDS}
        self._valkey: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, **limits)
        self._claim = self._valkey.register_script(CLAIM)
        super().__init__(*arguments, **options)

    def tick(self, *_arguments: Any, **_options: Any) -> float:
        """Sends what is due; returns the seconds until the next look."""
        try:
            words: list[str | int] = []
            for name, entry in self.schedule.items():
                every: Any = entry.schedule
                words += [name, round(every.run_every.total_seconds() * 1000)]
            milliseconds, *due = self._claim(keys=[KEY], args=words)
            self._unsent += [name.decode() for name in due if name.decode() not in self._unsent]
            while self._unsent:
                name = self._unsent[0]
                log.info("Sending due task %s", name)
                self.apply_async(self.schedule[name], producer=self.producer, advance=False)
                del self._unsent[0]
        except (redis.RedisError, SchedulingError, OSError) as error:
            if not self._away:
                log.warning("Periodic tasks wait: Valkey is away (%s)", type(error).__name__)
            self._away = True
            return LOOK_SECONDS
        self._away = False
        return min(float(milliseconds) / 1000, LOOK_SECONDS)

    def close(self) -> None:
        super().close()
        self._valkey.close()
