"""How the steps of a workflow depend on each other."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

from boards import expressions
from boards.expressions import Refused
from boards.workflows.mistakes import Mistakes
from boards.workflows.steps import CHECKS, OF_A_STEP, Step, placeholders_in


class Relations:
    """How steps depend on each other: checks what names what, and finds an order."""

    def __init__(
        self, reader: Mistakes, steps: Sequence[Step], places: Mapping[str, str], asked: set[str]
    ) -> None:
        self.reader, self.steps, self.places, self.asked = reader, steps, places, asked
        self.made: dict[str, list[int]] = {}
        for n, step in enumerate(steps):
            self.made.setdefault(step.key, []).append(n)
            if step.of:
                self.made.setdefault(step.of, []).append(n)

    def check_names(self) -> None:
        """Refuse needs and checks that aren't there, circles, and what expressions can't know."""
        for step in self.steps:
            self._check_known(step.needs, f"{self.places[step.key]}.needs")
            self._check_until(step)
        if self.reader.errors:
            return
        ordered = self.ordered()
        if len(ordered) < len(self.steps):
            self._refuse_circle(ordered)
            return
        place_of = {step.key: n for n, step in enumerate(ordered)}
        for step in ordered:
            self._check_expressions(step, place_of)

    def ordered(self) -> list[Step]:
        """Return the steps as written, but each after those it waits for; circles are left out."""
        before = self._before()
        after: dict[int, list[int]] = {}
        for n, needed in enumerate(before):
            for m in needed:
                after.setdefault(m, []).append(n)
        waits = [len(needed) for needed in before]
        free = [n for n, count in enumerate(waits) if not count]
        found: list[Step] = []
        while free:
            n = heapq.heappop(free)
            found.append(self.steps[n])
            for m in after.get(n, ()):
                waits[m] -= 1
                if not waits[m]:
                    heapq.heappush(free, m)
        return found

    def _before(self) -> list[set[int]]:
        before: list[set[int]] = [set() for _ in self.steps]
        for n, step in enumerate(self.steps):
            for key in step.needs:
                before[n].update(self.made[key])
            for key in step.until:
                for m in self.made[key]:
                    before[m].add(n)
        return before

    def _check_known(self, keys: Collection[str], path: str) -> bool:
        unknown = [key for key in keys if key not in self.made]
        if unknown:
            there = ", ".join(step.key for step in self.steps)[:300]
            self.reader.refuse(path, f"names {unknown[0]}, but the steps are: {there}.")
        return not unknown

    def _check_until(self, step: Step) -> None:
        path = f"{self.places[step.key]}.until"
        if not self._check_known(step.until, path):
            return
        for key in step.until:
            for n in self.made[key]:
                check = self.steps[n]
                if check.is_open:
                    self.reader.refuse(
                        path,
                        f"names {key}, whose matrix is known only once others are over; give "
                        "it a list of values.",
                    )
                if check.kind not in CHECKS or check.until:
                    self.reader.refuse(
                        path,
                        f"names {key}, which is no check; only steps of the kinds "
                        f"{' and '.join(CHECKS)} are.",
                    )
        if step.until and step.kind in ("check", "wait", "ask"):
            self.reader.refuse(path, f"is for steps that can do better; a {step.kind} can't.")

    def _refuse_circle(self, ordered: Sequence[Step]) -> None:
        done = {step.key for step in ordered}
        before = self._before()
        n = next(n for n, step in enumerate(self.steps) if step.key not in done)
        seen: list[int] = []
        while n not in seen:
            seen.append(n)
            n = next(m for m in before[n] if self.steps[m].key not in done)
        circle = [self.steps[m].key for m in [*seen[seen.index(n) :], n]]
        self.reader.refuse(
            f"{self.places[circle[0]]}.needs",
            f"goes round in a circle: {' needs '.join(circle)}; take one of these away.",
        )

    def _check_expressions(self, step: Step, place_of: Mapping[str, int]) -> None:
        place = self.places[step.key]
        texts = [(f"{place}.if", f"${{{{ {step.condition} }}}}")] if step.condition else []
        texts += list(placeholders_in(step.given, f"{place}.{step.kind}"))
        texts += list(placeholders_in(dict(step.env), f"{place}.env"))
        texts += [(f"{place}.matrix.{name}", step.matrix[name]) for name in step.lists]
        for path, text in texts:
            try:
                for expression in expressions.placeholders(text):
                    for looked_up in expression.paths():
                        self._check_path(step, looked_up, place_of)
            except Refused as refused:
                self.reader.refuse(path, str(refused))

    def _check_path(self, step: Step, path: expressions.Path, place_of: Mapping[str, int]) -> None:
        root, *names = path
        if root == "inputs" and names and self.asked and names[0] not in self.asked:
            raise Refused(
                f"names inputs.{names[0]}, but the inputs are: {', '.join(sorted(self.asked))}."
            )
        if root == "matrix" and names and names[0] not in step.matrix:
            there = ", ".join(step.matrix) or "none; the step has no matrix"
            raise Refused(f"names matrix.{names[0]}, but the values are: {there}.")
        if root != "steps" or not names:
            return
        key = names[0]
        if key not in self.made:
            raise Refused(
                f"names steps.{key}, but there is no such step; a key with other characters "
                "stands in brackets, steps['test:3.11']."
            )
        if any(place_of[self.steps[n].key] >= place_of[step.key] for n in self.made[key]):
            raise Refused(f"names steps.{key}, which is not over by then; add it to 'needs'.")
        if len(names) > 1 and names[1] not in OF_A_STEP:
            raise Refused(f"names steps.{key}.{names[1]}; there are {', '.join(OF_A_STEP)}.")
        promised = self.steps[self.made[key][0]].outputs
        if len(names) > 2 and names[1] == "outputs" and promised and names[2] not in promised:
            raise Refused(
                f"names the output {names[2]}, but step {key} promises {', '.join(promised)}."
            )
