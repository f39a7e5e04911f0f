"""aider: plain text, no MCP, its history in files."""

from __future__ import annotations

from .base import PlainText, Plan, Start, there


class Aider:
    name, title, program = "aider", "aider", "aider"
    names_sessions, resumes, connects = False, False, False
    loads: tuple[str, ...] = (".aider.conf.yml", ".aider.model.settings.yml", ".env")

    def start(self, plan: Plan) -> Start:
        argv = [self.program, "--message-file", str(plan.prompt_file), "--yes-always"]
        argv += ["--model", plan.model] if plan.model else []
        argv += ["--no-auto-commits", "--no-gitignore", "--no-check-update", "--no-pretty"]
        argv += ["--no-stream", "--no-analytics", "--no-show-release-notes", "--no-suggest-shell"]
        if not there(plan.tree, plan.top, [".git"]):
            argv.append("--no-git")  # else it makes a repository
        for what in ("input", "chat"):
            argv += [f"--{what}-history-file", str(plan.own / f"{what}.history")]
        return Start([*argv, *plan.args], env={"AIDER_MAP_TOKENS": "1024"})

    def parser(self, plan: Plan) -> PlainText:
        return PlainText()


AIDER = Aider()
