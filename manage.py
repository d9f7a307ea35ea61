#!/usr/bin/env python
"""Django's command line."""

import os
import sys


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (pip has not run, so nothing else has said it)
        sys.exit("ThingScale needs Python 3.11 or later.")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    from thingscale.lib.env import BadSetting
    from thingscale.processes import secret_key

    try:
        execute_from_command_line(sys.argv)
    except BadSetting as error:
        sys.exit(str(error))
    except ImproperlyConfigured:
        if not secret_key.is_missing():
            raise
        secret_key.require()


if __name__ == "__main__":
    main()
