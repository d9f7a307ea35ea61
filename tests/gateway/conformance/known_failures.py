"""Tests that are known to fail, for each broker: by name, or by name and parameters; and why.

A test that passes although it is listed fails: so nothing stays here that is mended.
"""

from typing import Final

KNOWN_FAILURES: Final[dict[str, dict[str, str]]] = {"mosquitto": {}, "thingscale": {}}
NOT_RUN: Final[frozenset[str]] = frozenset()  # reasons for which a test is not even run
