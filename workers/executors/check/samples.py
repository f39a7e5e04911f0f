"""Steps of the kind ``check`` for the suite that every executor passes."""

from __future__ import annotations

from workers.executors.shell.samples import SAMPLES

__all__ = ["SAMPLES"]
