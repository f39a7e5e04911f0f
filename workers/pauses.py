"""Steps that do nothing themselves: ``wait`` until a moment, ``ask`` a person.

Neither keeps a worker: the card is given back, and goes on when it is time or answered. When
a wait began is the store's word, so no restart makes it longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from boards.models import Attempt
from boards.workflows import Step, storable
from checkpoints.models import Step as StepRow
from workers import questions
from workers.executors.contract import Ending, HandOver

MAX_WAIT_SECONDS = 31 * 86_400
MAX_QUESTION_CHARS = 10_000
MAX_OPTIONS = 20
MAX_OPTION_CHARS = 200

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
            moment = parse_datetime(value)
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
        if name not in ("question", "options"):
            refuse(str(name)[:80], "is no field of an ask; use question and options.")
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
    if isinstance(options, str) and "${{" in options:
        return {"question": question, "options": options}
    if not isinstance(options, list) or len(options) > MAX_OPTIONS:
        refuse("options", f"must be a list of up to {MAX_OPTIONS} answers to choose from.")
        return None
    for n, option in enumerate(options):
        if not isinstance(option, str) or not option.strip() or len(option) > MAX_OPTION_CHARS:
            refuse(f"options[{n}]", f"must be text of up to {MAX_OPTION_CHARS} characters.")
            return None
    return {"question": question, "options": list(options)}


KINDS: Mapping[str, Callable[[Any, Refuse], Any]] = {"wait": read_wait, "ask": read_ask}


def carry_out(attempt: Attempt, step: Step) -> Ending:
    """Return how the pause ended. Raises HandOver while it lasts, Ask while nobody answered."""
    return _wait(attempt, step) if step.kind == "wait" else _ask(attempt, step)


def _wait(attempt: Attempt, step: Step) -> Ending:
    tries = StepRow.objects.filter(card_id=attempt.card_id, line=attempt.line, key=step.key)
    began = tries.order_by("number").values_list("started_at", flat=True)[0]
    if "until" in step.given:
        over = datetime.fromisoformat(step.given["until"])
    else:
        over = began + timedelta(seconds=step.given["seconds"])
    left = (over - timezone.now()).total_seconds()
    shown = over.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if left > 0:
        raise HandOver("wait", f"It waits until {shown}.", math.ceil(left))
    return Ending(True, f"waited until {shown}", detail={"until": over.isoformat()})


def _ask(attempt: Attempt, step: Step) -> Ending:
    given = step.given
    answer = questions.answer(attempt, step.key, given["question"], given["options"])
    return Ending(
        True, f"was answered: {answer[:200]}", detail={"answer": answer}, outputs={"answer": answer}
    )
