"""A plugin for pytest: the folder that EXAMPLE_EXECUTORS names counts among the executors'."""

from __future__ import annotations

import os

from workers import executors

executors.__path__.append(os.environ["EXAMPLE_EXECUTORS"])
