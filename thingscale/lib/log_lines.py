"""Formats each log record as one line of bounded length, whatever a client has put into it, and without
tokens: a client that mistypes its URL sends one where we do not look for it."""

import logging
import re

MAX_LINE = 1_000  # characters of a message
MAX_TRACEBACK = 16_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_NEWLINE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_TOKEN = re.compile(r"(?<![0-9A-Za-z])(?:[0-9A-F]{32}|[a-z2-7]{26})(?![0-9A-Za-z])")  # or an intake's key
CLIENT_LOGGERS = ("django.security",)  # of what only clients can cause


class LineFormatter(logging.Formatter):
    """Only failures of our own have a traceback: a request that was refused needs none."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        line = _TOKEN.sub("***", _CONTROL.sub(_escaped, super().formatMessage(record)))
        if len(line) > MAX_LINE:
            line = f"{line[:MAX_LINE]}... ({len(line):,} characters)"
        status = getattr(record, "status_code", None)
        refused = isinstance(status, int) and 400 <= status < 500
        if record.exc_info and not refused and not record.name.startswith(CLIENT_LOGGERS):
            text = _CONTROL_BUT_NEWLINE.sub(_escaped, self.formatException(record.exc_info))
            text = _TOKEN.sub("***", text)
            if len(text) > MAX_TRACEBACK:
                half = MAX_TRACEBACK // 2
                text = f"{text[:half]}\n... ({len(text):,} characters)\n{text[-half:]}"
            line = f"{line}\n{text}"
        return line


def _escaped(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode()
