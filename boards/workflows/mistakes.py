"""What is wrong with a workflow, by the place it stands at."""

from __future__ import annotations

from boards.workflows.steps import Refuse

MAX_REPORTED_ERRORS = 50


class Mistakes:
    """Collects every error, not just the first."""

    def __init__(self) -> None:
        self.errors: dict[str, list[str]] = {}

    def refuse(self, path: str, sentence: str) -> None:
        if len(self.errors) < MAX_REPORTED_ERRORS or path in self.errors:
            said = self.errors.setdefault(path, [])
            if sentence not in said:  # each step that a matrix makes is read
                said.append(sentence)

    def below(self, path: str) -> Refuse:
        """Return a way to refuse what stands at places below the path."""

        def refuse(where: str, sentence: str) -> None:
            joint = "" if not where or where.startswith("[") else "."
            self.refuse(f"{path}{joint}{where}", sentence)

        return refuse
