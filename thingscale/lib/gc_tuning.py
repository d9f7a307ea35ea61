"""The cyclic garbage collector of a process that runs for months."""

import gc


def freeze_after_start() -> None:
    """To be called once everything is loaded. These objects stay, so the collector need not look at them:
    that would take a third of the time of a process under load."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def drop_tracebacks(error: BaseException) -> None:
    """For the error of a failed attempt to connect. Its frames refer to it, so it would stay in memory, with
    libpq's buffers, until the collector runs. That takes long in a process that does little else."""
    found: BaseException | None = error
    while found:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
