"""What a question to people may be: what it takes for an answer, and what follows silence.

    asked ─┬─ answered ──────────> closed, and the card goes on from its checkpoint
           └─ time is up ─┬ default ─> answered so by ``system:timeout``
                          ├ fail ────> closed; the card stays blocked and says so
                          └ stay ────> open as before; that its time is up is told once

Rules alone: no store is needed to know that a question can't be asked like this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation

from boards.secrets.names import check_name
from kernel.errors import DomainError, Invalid

TEXT, CHOICE, APPROVE, NUMBER, DATE, SECRET = KINDS = (
    "text",
    "choice",
    "approve",
    "number",
    "date",
    "secret",
)
DEFAULT, FAIL, STAY = ON_TIMEOUT = ("default", "fail", "stay")
YES, NO = "yes", "no"
MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS = 1, 31 * 86_400
MAX_DETAIL_CHARS = 200_000
MAX_DEFAULT_CHARS = 10_000


class NoAnswer(DomainError):
    """What was said is no answer to the question; ``extra['options']`` are those it takes."""

    code = "invalid_answer"
    status = 400
    title = "Not an answer to this question"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a question takes, and what becomes of it when nobody answers in time."""

    kind: str = TEXT
    options: tuple[str, ...] = ()
    detail: str = ""
    default: str = ""
    timeout_seconds: int | None = None
    on_timeout: str = ""


def checked(
    question: str,
    options: Sequence[str] = (),
    *,
    question_kind: str = "",
    detail: str = "",
    default: str = "",
    timeout_seconds: int | None = None,
    on_timeout: str = "",
) -> Terms:
    """Return the terms. Raises Invalid naming what can't be.

    Without a kind the options are suggestions; a ``choice`` takes nothing else. Silence
    approves nothing: an ``approve`` may have ``no`` for its default alone. A ``secret`` has one
    option, the name under which the board's commands get what is given.
    """
    terms = Terms(
        question_kind or TEXT, tuple(options), detail, default, timeout_seconds, on_timeout
    )
    if question and not question.strip():
        raise Invalid.field("question", "is blank; say what is asked.")
    if not question:
        given: dict[str, object] = {
            "question_kind": question_kind,
            "detail": detail,
            "default": default,
        }
        given |= {"timeout_seconds": timeout_seconds, "on_timeout": on_timeout}
        for name, value in given.items():
            if value:
                raise Invalid.field(name, "goes with a question; send what is asked.")
        return terms
    if terms.kind == CHOICE and not options:
        raise Invalid.field("options", "is needed: a choice is between options.")
    if terms.kind in (APPROVE, NUMBER, DATE) and options:
        raise Invalid.field("options", f"goes with no question of the kind {terms.kind}.")
    if terms.kind == SECRET:
        if len(options) != 1:
            raise Invalid.field("options", "must be one: the name of the secret to be given.")
        check_name(options[0], "options")
        if default:
            raise Invalid.field("default", "can't be a secret: it would stand in the log.")
    if len(detail) > MAX_DETAIL_CHARS:
        raise Invalid.field("detail", f"is longer than {MAX_DETAIL_CHARS} characters.")
    return _timed(terms)


def _timed(terms: Terms) -> Terms:
    """Return the terms with what follows the timeout written out. Raises Invalid."""
    default, on_timeout = terms.default, terms.on_timeout
    if terms.timeout_seconds is None:
        for name, value in (("default", default), ("on_timeout", on_timeout)):
            if value:
                raise Invalid.field(name, "says what follows a timeout; send timeout_seconds, too.")
        return terms
    if not MIN_TIMEOUT_SECONDS <= terms.timeout_seconds <= MAX_TIMEOUT_SECONDS:
        raise Invalid.field(
            "timeout_seconds", f"must be {MIN_TIMEOUT_SECONDS} to {MAX_TIMEOUT_SECONDS}."
        )
    on_timeout = on_timeout or (DEFAULT if default else STAY)
    if (on_timeout == DEFAULT) != bool(default):
        must = "is needed to answer by it" if not default else "is for on_timeout `default`"
        raise Invalid.field("default", f"{must}.")
    if default:
        try:
            default = accepted(terms.kind, terms.options, default)
        except NoAnswer as refusal:
            raise Invalid.field("default", refusal.detail) from None
        if terms.kind == APPROVE and default == YES:
            raise Invalid.field("default", "must be no: silence approves nothing.")
    return Terms(
        terms.kind, terms.options, terms.detail, default, terms.timeout_seconds, on_timeout
    )


def accepted(kind: str, options: Sequence[str], text: str) -> str:
    """Return the answer as it is kept: an option in its own spelling, of a secret its name alone.

    Raises NoAnswer.
    """
    if kind == SECRET:
        return options[0]
    said = text.strip()
    if kind in (CHOICE, APPROVE):
        offered = (YES, NO) if kind == APPROVE else options
        for option in offered:
            if option.strip().casefold() == said.casefold():
                return option
        named = ", ".join(f"“{option}”" for option in offered)
        raise _refused(f"is none of the options: {named}.", offered)
    if kind == NUMBER and not _is_number(said):
        raise _refused("is no number, such as 12 or 0.5.")
    if kind == DATE and not _is_date(said):
        raise _refused("is no date, such as 2030-01-31.")
    return said if kind in (NUMBER, DATE) else text


def _refused(sentence: str, options: Sequence[str] = ()) -> NoAnswer:
    return NoAnswer(
        f"The answer {sentence}", errors={"text": [sentence]}, extra={"options": list(options)}
    )


def _is_number(text: str) -> bool:
    try:
        return len(text) <= 100 and text.isascii() and Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and date.fromisoformat(text) is not None
    except ValueError:
        return False
