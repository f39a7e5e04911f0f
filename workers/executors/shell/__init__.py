"""Runs one shell command so that it can't outlive or outgrow what was agreed.

All but ``executor.py`` stands alone: standard library only, nothing of this project imported.

    result = Execution(Command(run="make test", cwd=..., folder=..., env=...), on_output).run()

* ``command.py``  what to run, and the running of it
* ``keeper.py``   the small process between the worker and the command
* ``output.py``   live output: decoding, batches, redaction, the cap
* ``remains.py``  makes sure that nothing is left of a command whose worker was killed
* ``mode.py``     what stands between a command and this machine, and what does not
* ``view.py``     what a command under bubblewrap sees of this machine
* ``doorway.py``  lets a command without a network call this server all the same
* ``cgroups.py``  a control group per command, where one can be made
* ``executor.py`` carries out a workflow's ``run`` steps with it
"""

from __future__ import annotations

from .command import Command, Confined, Execution, Limits, Result, environment
from .mode import Mode, mode
from .output import Filter
from .remains import StillAlive, ensure_dead
from .view import View

__all__ = [
    "Command",
    "Confined",
    "Execution",
    "Filter",
    "Limits",
    "Mode",
    "Result",
    "StillAlive",
    "View",
    "ensure_dead",
    "environment",
    "mode",
]
