"""The cache in which django-ratelimit counts."""

from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.redis import RedisCache

WINDOW = 1000  # milliseconds
DAY = 86_400
_COUNT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
"""


class WindowCache(RedisCache):
    """A counter of REST requests, which throttling.py makes for a day, lives one second from its first
    request on; any other as long as it was made for.

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
        return int(client.eval(_COUNT, 1, key, WINDOW))
