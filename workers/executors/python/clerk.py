"""Answers a Python workflow and writes down what it says, in a thread beside its process."""

from __future__ import annotations

import json
import math
import os
import select
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from holdfast.workflows import KEY
from kernel.errors import Invalid, Malformed, StepConflict
from kernel.limits import load_json
from workers.executors.contract import TERMS, Assignment, Entry, HandOver

MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_SLEEP_SECONDS = 31 * 86_400
LOOK_SECONDS = 0.2
BEGAN = "@began"


class Clerk:
    """Serves one process from ``start`` to ``close``.

    ``ended`` is what the workflow said of its end, None while it has said nothing. What ends
    the attempt, such as a lost lease or a question, is kept and raised by ``look``.
    """

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        self.assignment, self.journal = assignment, assignment.journal
        self.ended: dict[str, Any] | None = None
        self.recorded: dict[str, Entry] = {}
        self._raised: BaseException | None = None
        self._over = threading.Event()
        # Both ends, so that opening waits for nobody and a process that ends is no end of file.
        self._up = os.open(folder / "up", os.O_RDWR | os.O_NONBLOCK)
        self._down = os.open(folder / "down", os.O_RDWR | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._serve, name="clerk", daemon=True)

    def start(self) -> None:
        self.recorded = self.journal.recorded()
        self._thread.start()

    def close(self) -> None:
        """End the service. Nothing is written any more when this returns."""
        self._over.set()
        self._thread.join()
        os.close(self._up)
        os.close(self._down)

    def look(self, *_: Any) -> None:
        """Raise what came up meanwhile, if anything did."""
        if self._raised is not None:
            raise self._raised

    def _serve(self) -> None:
        buffer = b""
        try:
            while not self._over.is_set() and self._raised is None:
                if not select.select([self._up], [], [], LOOK_SECONDS)[0]:
                    continue
                *lines, buffer = (buffer + os.read(self._up, 256 * 1024)).split(b"\n")
                for line in lines:
                    self._send(self._answered(line))
                if len(buffer) > MAX_LINE_BYTES:
                    raise Malformed(f"The workflow said more than {MAX_LINE_BYTES} bytes at once.")
        except BaseException as error:
            self._raised = error
        finally:
            self.journal.rest()

    def _answered(self, line: bytes) -> Mapping[str, Any]:
        try:
            said = load_json(line)
            if not isinstance(said, dict):
                raise Malformed("The workflow said what is no message.")
            return self._answer(said)
        except (Invalid, Malformed, StepConflict) as error:
            return {"error": error.detail}
        except BaseException as error:
            # The lease is lost, a person is asked, the store is away: this run is over.
            self._raised = error
            return {"stop": True}

    def _answer(self, said: dict[str, Any]) -> Mapping[str, Any]:
        op = said.get("op")
        if op == "hello":
            return self._told(said)
        if op in ("done", "failed"):
            self.ended = said
            return {}
        if op == "note":
            self.assignment.note(str(said.get("text"))[:4000])
            return {}
        if op == "progress":
            self.assignment.progress(str(said.get("text")))
            return {}
        key = said.get("key")
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise Invalid.field("key", "is no key of a workflow's step.")
        if op in ("record", "finish"):
            return self._record(op, key, said)
        if op == "begin":
            begun = self.journal.begin(key, title=_text(said, "title"), kind="step")
            return {"in_doubt": begun.in_doubt}
        if op == "ask":
            return self._ask(key, _text(said, "question"), said.get("options"), said.get("terms"))
        if op == "sleep":
            return self._sleep(key, said.get("seconds"))
        raise Malformed("The workflow said what is no message.")

    def _told(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a process is told first: the version it is to run, and what is recorded."""
        given, assignment = self.assignment.given, self.assignment
        name, versions = given["workflow"], list(said.get("versions") or [])
        began = self.recorded.get(BEGAN)
        if began is not None and began.replay:
            version = began.result["version"]
            if version not in versions:
                there = ", ".join(map(str, versions)) or "none"
                raise NotInstalled(
                    f"{assignment.card} began under version {version} of the workflow {name}, and "
                    f"this host has: {there}. Install that version again, then retry the card, or "
                    "rewind the card to before it began."
                )
        else:
            version = _chosen(name, given.get("version"), versions, said)
            self.journal.record(
                BEGAN,
                {"workflow": name, "version": version},
                title=f"{name}, version {version}",
                kind="workflow",
            )
        entries = {key: one.result for key, one in self.recorded.items() if one.replay}
        return {
            "version": version,
            "inputs": given["inputs"],
            "recorded": entries,
            "card": assignment.card,
            "round": assignment.round,
            "feedback": assignment.feedback,
        }

    def _record(self, op: str, key: str, said: Mapping[str, Any]) -> Mapping[str, Any]:
        summary, next_step = _text(said, "checkpoint"), _text(said, "next_step")
        result = self.assignment.redacted(said.get("result"))
        if op == "finish":
            self.journal.finish(key, result, checkpoint=summary, next_step=next_step)
        else:
            kind = "checkpoint" if key.startswith("checkpoint:") else "step"
            self.journal.record(
                key,
                result,
                title=_text(said, "title"),
                kind=kind,
                checkpoint=summary,
                next_step=next_step,
            )
        self.assignment.check()
        return {}

    def _ask(self, key: str, question: str, options: Any, terms: Any) -> Mapping[str, Any]:
        offered = [str(one) for one in options] if isinstance(options, list) else []
        given = {n: terms[n] for n in TERMS if terms.get(n)} if isinstance(terms, dict) else {}
        if offered:
            given.setdefault("question_kind", "choice")
        begun = self.journal.begin(key, title=question, kind="ask", continues=True)
        if not begun.replay:
            answer = self.assignment.ask(question, offered, key=key, **given)
            self.journal.finish(key, {"answer": answer})
            return {"answer": answer}
        return {"answer": begun.result["answer"]}

    def _sleep(self, key: str, seconds: Any) -> Mapping[str, Any]:
        known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not known or not 0 <= seconds <= MAX_SLEEP_SECONDS:
            raise Invalid.field("seconds", f"must be a number from 0 to {MAX_SLEEP_SECONDS}.")
        entry = self.recorded.get(key)
        if entry is not None and entry.replay:
            until = datetime.fromisoformat(entry.result["until"])
        else:
            until = datetime.now(UTC) + timedelta(seconds=seconds)
            title = f"Sleep for {seconds:g} s"
            self.journal.record(key, {"until": until.isoformat()}, title=title, kind="sleep")
        left = (until - datetime.now(UTC)).total_seconds()
        if left > 0:
            shown = until.strftime("%Y-%m-%d %H:%M:%S UTC")
            raise HandOver("wait", f"It waits until {shown}.", math.ceil(left))
        return {}

    def _send(self, answer: Mapping[str, Any]) -> None:
        """Give the process its answer, however slowly it reads, unless this ends meanwhile."""
        data = memoryview(json.dumps(answer).encode() + b"\n")
        while data and not self._over.is_set():
            if select.select([], [self._down], [], LOOK_SECONDS)[1]:
                try:
                    data = data[os.write(self._down, data) :]
                except BlockingIOError:
                    time.sleep(0.01)


class NotInstalled(Exception):
    """The workflow, or the version a card began under, is not here. A sentence says what to do."""


def _chosen(name: str, wanted: int | None, versions: Sequence[int], said: Mapping[str, Any]) -> int:
    if not versions:
        there = ", ".join(said.get("there") or []) or "none"
        broken = "; ".join(said.get("problems") or [])
        raise NotInstalled(
            f"No workflow named {name} is installed on this host; there are: {there}."
            + (f" These could not be loaded: {broken}." if broken else "")
        )
    if wanted is None:
        return max(versions)
    if wanted not in versions:
        there = ", ".join(map(str, versions))
        raise NotInstalled(f"Version {wanted} of {name} is not installed; this host has: {there}.")
    return wanted


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""
