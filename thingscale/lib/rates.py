"""How much of a rate is left, in the headers of draft-ietf-httpapi-ratelimit-headers."""

from typing import NamedTuple


class Rate(NamedTuple):
    policy: str  # its name
    limit: int
    left: int  # below 0: this request is one too many
    window: int = 1  # seconds

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.limit};w={self.window}',
            "RateLimit": f'"{self.policy}";r={max(self.left, 0)};t={self.window}',
        }
