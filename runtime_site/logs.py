"""How a log line looks: time, part, level, who, what."""

from __future__ import annotations

import logging
import os
import re
import time

#: Set by the supervisor for each part that it starts.
PART_VARIABLE = "HOLDFAST_PART"
# django-q names its processes by 32 hexadecimal digits, in every line.
_LONG_NAME = re.compile(r"Process-([0-9a-f]{6})[0-9a-f]{26}")


class LineFormatter(logging.Formatter):
    """Writes ``12:03:04 web     info    boards.leases: …``; further lines are indented.

    Each part writes to the terminal by itself, so a dying supervisor loses no line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._part = os.environ.get(PART_VARIABLE, "")

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = _LONG_NAME.sub(r"process \1", super().format(record)).replace("\n", "\n    ")
        part = f"{self._part:<8}" if self._part else ""
        return f"{when} {part}{record.levelname.lower():<8}{record.name}: {text}"
