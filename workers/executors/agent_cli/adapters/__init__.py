"""The agents that are known, by the word that a step names them with."""

from __future__ import annotations

from .acp import ACP
from .aider import AIDER
from .base import Adapter, Plan, Start
from .claude import CLAUDE
from .codex import CODEX
from .gemini import GEMINI
from .opencode import OPENCODE
from .qwen import QWEN
from .template import COMMAND

#: Those with a program of their own, which a host may have or not.
CLIS: dict[str, Adapter] = {
    adapter.name: adapter for adapter in (CLAUDE, CODEX, OPENCODE, QWEN, GEMINI, AIDER)
}
ADAPTERS: dict[str, Adapter] = {**CLIS, ACP.name: ACP, COMMAND.name: COMMAND}

__all__ = ["ADAPTERS", "CLIS", "Adapter", "Plan", "Start"]
