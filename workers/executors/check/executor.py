"""Carries out ``check`` steps: a command that tells whether something is as it should be."""

from __future__ import annotations

from workers.executors.shell.executor import Shell


class Check(Shell):
    """A step that is a command; its outcome is evidence on the step's ``criterion``."""

    kind = "check"


EXECUTOR = Check()
