"""Work that takes long stops when its process is told to: it asks between two transactions whether to go on.
The next round goes on with it."""

_stopping = False


class Interrupted(Exception):
    """Nothing is half done."""


def stop() -> None:
    global _stopping  # noqa: PLW0603
    _stopping = True


def check_stop() -> None:
    """Raises Interrupted."""
    if _stopping:
        raise Interrupted
