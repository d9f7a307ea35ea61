"""Replaces itself by another program, which dies with its parent, and gives up root if asked to.

Usage: launch.py PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT ...]       (UID -1: keep the account)

This is a program of its own because a preexec_fn is unsafe in a parent with threads. It is run by path with
`-I -S`, so that it starts in about 10 ms. It may import only the standard library.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, death_signal, uid, gid = map(int, arguments[:4])
    program = arguments[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, which would clear it. It survives the exec.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent died while this child was starting")
    # Python ignores these two signals, and they would stay ignored after the exec.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


main(sys.argv[1:])
