"""Lets maintenance that takes long stop early when its process stops: it calls check_stop() between two
transactions. The next round goes on where it stopped."""

_stopping = False


class Interrupted(Exception):
    """The process stops. No transaction is half done."""


def stop() -> None:
    global _stopping  # noqa: PLW0603
    _stopping = True


def check_stop() -> None:
    """Raises Interrupted."""
    if _stopping:
        raise Interrupted
