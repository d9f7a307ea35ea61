"""Counts what an account or an address does, for all processes together: by django-ratelimit, in Valkey.

REST requests are counted by the second (api/throttling.py), tries of passwords and the like by minutes and
hours (console/sign_in_limits.py). The HTTP connector counts each device's messages in its own memory
(thingscale/lib/rate_limiter.py), since a look into Valkey takes longer than all else that it does for one.
"""

from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.redis import RedisCache
from django.http import HttpRequest
from django_ratelimit.core import get_usage

SECOND = 1
DAY = 86_400
_COUNT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
"""


def count_in_second(request: HttpRequest, group: str, whose: str, limit: int) -> int:
    """Counts a request. Returns how many there were in this second, which began with the first one."""
    return int(_count(request, group, whose, limit, DAY)["count"])  # WindowCache ends it after a second


def count_try(request: HttpRequest, group: str, whose: str, limit: int, seconds: int) -> int:
    """Counts a try. Returns 0 if it is within the limit, or else the seconds until the next one is."""
    usage = _count(request, group, whose, limit, seconds)
    return max(1, usage["time_left"]) if usage["should_limit"] else 0


def _count(request: HttpRequest, group: str, whose: str, limit: int, seconds: int) -> dict[str, Any]:
    usage: dict[str, Any] = get_usage(
        request, group=group, key=lambda group, request: whose, rate=(limit, seconds), increment=True
    )
    return usage


class WindowCache(RedisCache):
    """Where django-ratelimit counts. A counter that it makes for a day (count_in_second) lives one second
    from its first request on; any other as long as it was made for.

    django-ratelimit's own windows are seconds of the clock: of a burst over the end of one, twice as much
    would pass. Nor could its way of counting (add, then incr) be used with a counter that ends so soon: it
    would come to life again between the two, for ever.
    """

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        if isinstance(timeout, int) and timeout < DAY:
            return bool(super().add(key, value, timeout, version))
        return False  # so that `incr` is asked, which begins a window by itself, in one round trip

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        key = self.make_and_validate_key(key, version)
        client = self._cache.get_client(key, write=True)
        return int(client.eval(_COUNT, 1, key, SECOND * 1000))
