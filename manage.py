#!/usr/bin/env python
"""Runs one Holdfast command and exits with its status. `manage.py runtime` starts everything."""

import os
import sys

# Checked before any import that a too-old Python could not even parse.
if sys.version_info < (3, 11):
    sys.exit(
        "holdfast: this is Python %d.%d; Holdfast needs Python 3.11 or newer."
        % (sys.version_info[0], sys.version_info[1])
    )


def main() -> None:
    """Run the command line. Wrong settings end in one sentence, not in a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "runtime_site.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError as error:
        sys.exit(
            f"holdfast: {error.name} is not installed for {sys.executable}; use `make run`, "
            "which installs what is needed."
        )
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"holdfast: {error}")


if __name__ == "__main__":
    main()
