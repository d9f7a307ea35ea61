"""The cyclic garbage collector of a process that runs for months."""

import gc


def freeze_after_start() -> None:
    """Once everything is loaded: what is there now stays. Looking at it again and again would take a third of
    the time of a process under load."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def drop_tracebacks(error: BaseException) -> None:
    """Of a failed attempt to connect. Its frames refer to it: it would stay, with libpq's buffers, until the
    collector comes by, which takes long where not much else happens."""
    found: BaseException | None = error
    while found:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
