"""Steps that do nothing themselves: ``wait`` until a moment, ``ask`` a person.

Neither keeps a worker: the card is given back, and goes on when it is time or answered. When
a wait began is the store's word, so no restart makes it longer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from boards import asking
from boards.workflows import Step, storable
from kernel.errors import Invalid
from workers.executors.contract import Ending, HandOver
from workers.ledger import Ledger

MAX_WAIT_SECONDS = 31 * 86_400
MAX_QUESTION_CHARS = 10_000
MAX_OPTIONS = 20
MAX_OPTION_CHARS = 200
#: The terms that are texts, and how long they may be.
_TEXTS = {
    "kind": 20,
    "detail": asking.MAX_DETAIL_CHARS,
    "default": asking.MAX_DEFAULT_CHARS,
    "on_timeout": 20,
}
ASKED = ("question", "options", *_TEXTS, "timeout_seconds")

Refuse = Callable[[str, str], None]


def read_wait(value: Any, refuse: Refuse) -> dict[str, Any] | None:
    """Return how long a ``wait`` lasts, ``{"seconds"}``, or until when, ``{"until"}``."""
    given = value if isinstance(value, Mapping) else {"seconds": value}
    for name in given:
        if name not in ("seconds", "until"):
            refuse(str(name)[:80], "is no field of a wait; use seconds or until.")
            return None
    if ("seconds" in given) == ("until" in given):
        refuse(
            "", "must be a number of seconds, {'seconds': 60} or {'until': '2030-01-31T09:00Z'}."
        )
        return None
    if "seconds" in given:
        return _seconds(given["seconds"], value is given, refuse)
    return _until(given["until"], refuse)


def _seconds(value: Any, named: bool, refuse: Refuse) -> dict[str, Any] | None:
    if isinstance(value, str) and "${{" in value:
        return {"seconds": value}
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WAIT_SECONDS:
        refuse(
            "seconds" if named else "",
            f"must be a whole number of seconds from 0 to {MAX_WAIT_SECONDS}.",
        )
        return None
    return {"seconds": value}


def _until(value: Any, refuse: Refuse) -> dict[str, Any] | None:
    if isinstance(value, str) and "${{" in value:
        return {"until": value}
    moment = value if isinstance(value, datetime) else None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if moment is None:
        refuse("until", "must be a date and time, such as '2030-01-31T09:00:00Z'.")
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)  # YAML leaves the zone of a UTC time out
    return {"until": moment.astimezone(UTC).isoformat().replace("+00:00", "Z")}


def read_ask(value: Any, refuse: Refuse) -> dict[str, Any] | None:
    """Return the question of an ``ask`` and its options, which may be none."""
    given = {"question": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        refuse("", "must be the question, or {'question': …, 'options': […]}.")
        return None
    for name in given:
        if name not in ASKED:
            refuse(str(name)[:80], f"is no field of an ask; use {', '.join(ASKED)}.")
            return None
    question, options = given.get("question"), given.get("options") or []
    if not isinstance(question, str) or not question.strip():
        refuse("question", "must be the question to ask, in words.")
        return None
    if len(question) > MAX_QUESTION_CHARS:
        refuse("question", f"is longer than {MAX_QUESTION_CHARS} characters.")
        return None
    if not storable(question, refuse):
        return None
    terms = _read_terms(given, refuse)
    if terms is None:
        return None
    if isinstance(options, str) and "${{" in options:
        return {"question": question, "options": options, **terms}
    if not isinstance(options, list) or len(options) > MAX_OPTIONS:
        refuse("options", f"must be a list of up to {MAX_OPTIONS} answers to choose from.")
        return None
    for n, option in enumerate(options):
        if not isinstance(option, str) or not option.strip() or len(option) > MAX_OPTION_CHARS:
            refuse(f"options[{n}]", f"must be text of up to {MAX_OPTION_CHARS} characters.")
            return None
    if "${{" not in json.dumps([options, terms]):
        try:
            asking.checked(question, options, **_terms(options, terms))
        except Invalid as refusal:
            ((field, (sentence, *_)),) = refusal.errors.items()
            refuse("kind" if field == "question_kind" else field, sentence)
            return None
    return {"question": question, "options": list(options), **terms}


def _read_terms(given: Mapping[str, Any], refuse: Refuse) -> dict[str, Any] | None:
    """Return what answers are taken and what follows silence, as far as it is said."""
    terms: dict[str, Any] = {}
    for name, most in _TEXTS.items():
        value = given.get(name)
        if value is None:
            continue
        if isinstance(value, int | float | date) and not isinstance(value, bool):
            value = str(value)  # YAML has read a number or a date
        if value is False and given.get("kind") == asking.APPROVE:
            value = asking.NO  # YAML takes a bare no for false
        if not isinstance(value, str) or len(value) > most:
            refuse(name, f"must be text of up to {most} characters.")
            return None
        if not storable(value, refuse):
            return None
        terms[name] = value
    for name, known in (("kind", asking.KINDS), ("on_timeout", asking.ON_TIMEOUT)):
        if terms.get(name) and terms[name] not in known:
            refuse(name, f"must be one of {', '.join(known)}.")
            return None
    seconds = given.get("timeout_seconds")
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, int):
            refuse("timeout_seconds", "must be a whole number of seconds.")
            return None
        terms["timeout_seconds"] = seconds
    return terms


def _terms(options: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the terms as ``boards.questions`` has them: options of a step are all there are."""
    terms = {name: given[name] for name in (*_TEXTS, "timeout_seconds") if name in given}
    kind = terms.pop("kind", "") or (asking.CHOICE if options else "")
    return {**terms, **({"question_kind": kind} if kind else {})}


KINDS: Mapping[str, Callable[[Any, Refuse], Any]] = {"wait": read_wait, "ask": read_ask}


def carry_out(ledger: Ledger, step: Step, redacted: Callable[[Any], Any]) -> Ending:
    """Return how the pause ended. Raises HandOver while it lasts, Ask while nobody answered."""
    return _wait(ledger, step) if step.kind == "wait" else _ask(ledger, step, redacted)


def _wait(ledger: Ledger, step: Step) -> Ending:
    began = ledger.began_at(step.key)
    if "until" in step.given:
        over = datetime.fromisoformat(step.given["until"])
    else:
        over = began + timedelta(seconds=step.given["seconds"])
    left = (over - datetime.now(UTC)).total_seconds()
    shown = over.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if left > 0:
        raise HandOver("wait", f"It waits until {shown}.", math.ceil(left))
    return Ending(True, f"waited until {shown}", detail={"until": over.isoformat()})


def _ask(ledger: Ledger, step: Step, redacted: Callable[[Any], Any]) -> Ending:
    given = redacted(step.given)
    options = given["options"]
    terms = _terms(options, given)
    said = ledger.answer(step.key, given["question"], options, same_words=False, **terms)
    told = {"answer": said.text, **({"reason": said.reason} if said.reason else {})}
    return Ending(True, f"was answered: {said.text[:200]}", detail=told, outputs=told)
