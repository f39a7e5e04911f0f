"""Any other agent, by a command line that its owner writes."""

from __future__ import annotations

from .base import PlainText, Plan, Start


class Template:
    """``command`` is for the shell. It finds the prompt in the file $HOLDFAST_PROMPT_FILE, which is
    also its standard input, the server's address in $HOLDFAST_URL and the attempt's token in
    $HOLDFAST_TOKEN."""

    name, title, program = "command", "the command", ""
    names_sessions, resumes, connects = False, False, True
    loads: tuple[str, ...] = ()

    def start(self, plan: Plan) -> Start:
        env = {"HOLDFAST_MODEL": plan.model, "HOLDFAST_MCP_URL": plan.mcp_url}
        return Start(shell=plan.command, env=env, stdin=plan.prompt_file)

    def parser(self, plan: Plan) -> PlainText:
        return PlainText()


COMMAND = Template()
