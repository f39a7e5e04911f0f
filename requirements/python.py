"""Exits non-zero, with one sentence, if this Python can't carry Holdfast. Any Python parses it."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "%s is Python %d.%d; Holdfast needs 3.11 or newer."
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )
for module, remedy in (
    ("ensurepip", "on Debian: apt-get install python3-venv"),
    ("venv", "on Debian: apt-get install python3-venv"),
    ("sqlite3", "build Python with SQLite's headers in reach"),
    ("ssl", "build Python with OpenSSL's headers in reach"),
):
    try:
        __import__(module)
    except ImportError:
        sys.exit("%s lacks the module %s; %s." % (sys.executable, module, remedy))
