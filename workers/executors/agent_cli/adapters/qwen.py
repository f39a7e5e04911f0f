"""Qwen Code: ``qwen -o stream-json``, whose words are Claude's."""

from __future__ import annotations

from .base import Plan, Start
from .claude import ClaudeLines
from .gemini import settings


class Qwen:
    name, title, program = "qwen", "Qwen Code", "qwen"
    names_sessions, resumes, connects = True, True, True
    loads: tuple[str, ...] = (".qwen/settings.json",)

    def start(self, plan: Plan) -> Start:
        argv = [self.program, "-o", "stream-json", "--yolo"]
        argv += ["--resume" if plan.resume else "--session-id", plan.session]
        argv += ["--model", plan.model] if plan.model else []
        argv += ["--auth-type", "openai"] if plan.env.get("OPENAI_API_KEY") else []
        config = plan.write("settings.json", settings(plan))
        env = {"QWEN_CODE_SYSTEM_SETTINGS_PATH": str(config)}
        return Start([*argv, *plan.args], env=env, stdin=plan.prompt_file)

    def parser(self, plan: Plan) -> ClaudeLines:
        return ClaudeLines()


QWEN = Qwen()
