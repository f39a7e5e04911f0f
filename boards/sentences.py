"""Events in words, for people: what an actor did, without the actor.

In the language of whoever reads; what somebody wrote, and the events themselves, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from events.models import Event

#: What was done, by kind of event; ``{…}`` are fields of its data.
_WORDS: dict[str, Any] = {
    "amendment.withdrawn": _("withdrew amendment {number} of the goal {title}"),
    "attempt.described": _("goes about it like this: {approach}"),
    "attempt.expired": _("ended attempt {attempt}: {worker} was not heard of any more"),
    "attempt.failed": _("failed in attempt {attempt}: {error}"),
    "attempt.reinstated": _("went on with attempt {attempt} after all"),
    "attempt.released": _("handed it over after attempt {attempt}: {summary}"),
    "attempt.salvaged": _("kept what attempt {attempt} still held: {summary}"),
    "board.created": _("made the board"),
    "board.edited": _("changed the board"),
    "budget.exhausted": _("stopped it: {said}"),
    "budget.restored": _("let it go on: {said}"),
    "card.answered": _("answered a question"),
    "card.approved": _("approved it"),
    "card.archived": _("archived it"),
    "card.blocked": _("got stuck in attempt {attempt}: {reason}"),
    "card.brought": _("brought it from elsewhere, where it was {was}"),
    "card.cancelled": _("cancelled it"),
    "card.claimed": _("took it as attempt {attempt}"),
    "card.completed": _("completed it: {summary}"),
    "card.created": _("made the card"),
    "card.deleted": _("deleted it"),
    "card.edited": _("changed its {changed}"),
    "card.forked": _("forked it from checkpoint C{checkpoint}"),
    "card.joined": _("joined its parts as checkpoint C{checkpoint}"),
    "card.merged": _("merged checkpoint C{checkpoint} into {into}"),
    "card.moved": _("moved it from {from} to {to}"),
    "card.paused": _("paused it"),
    "card.rejected": _("sent it back: {reason}"),
    "card.restored": _("brought it back from the archive"),
    "card.resumed": _("let workers have it again"),
    "card.retried": _("gave it a fresh set of attempts"),
    "card.rewound": _("put it back to checkpoint C{checkpoint}"),
    "card.split": _("split it into parts at checkpoint C{checkpoint}"),
    "card.submitted": _("asked for a review: {summary}"),
    "card.won": _("let it win its race"),
    "checkpoint.named": _("called checkpoint C{checkpoint} {tag}"),
    "checkpoint.saved": _("saved checkpoint C{checkpoint}: {summary}"),
    "checkpoints.dropped": _("let go of the contents of older checkpoints"),
    "criterion.met": _("showed that criterion {criterion} is met: {text}"),
    "criterion.regressed": _("found what broke criterion {criterion}: {said}"),
    "criterion.unmet": _("showed that criterion {criterion} is not met: {text}"),
    "decision.pinned": _("pinned a decision"),
    "decision.recorded": _("recorded a decision: {title}"),
    "decision.unpinned": _("unpinned a decision"),
    "discovery.merged": _("merged a discovery into one like it: {title}"),
    "discovery.pinned": _("pinned a discovery"),
    "discovery.proposed": _("made {card} of a discovery: {title}"),
    "discovery.recorded": _("recorded a discovery: {title}"),
    "discovery.resolved": _("resolved a discovery"),
    "discovery.revived": _("said that a dead end may be worth another try: {because}"),
    "discovery.unpinned": _("unpinned a discovery"),
    "executor.forgotten": _(
        "heard no more of the host {host}, where steps of the kind {steps} rested"
    ),
    "executor.recovered": _("found steps of the kind {steps} to work again on the host {host}"),
    "executor.rested": _(
        "had steps of the kind {steps} rest on the host {host} for {seconds} s: they failed this "
        "card and others"
    ),
    "goal.achieved": _("achieved the goal {title}: {said}"),
    "goal.amended": _("amended the goal"),
    "goal.checked": _("had the goal {title} checked: {said}"),
    "goal.created": _("set the goal"),
    "goal.edited": _("changed the goal"),
    "goal.met": _("found the goal {title} met: {said}"),
    "goal.reopened": _("made the goal {title} active again: {said}"),
    "host.forgotten": _("heard no more of the host {host}, which rested"),
    "host.recovered": _("found the host {host} to work again"),
    "host.rested": _("had the host {host} rest for {seconds} s: it failed this card and others"),
    "log.appended": _("wrote output in {step}"),
    "member.added": _("added a member"),
    "member.changed": _("changed a member's role"),
    "member.removed": _("removed a member"),
    "message.pinned": _("pinned a message"),
    "message.posted": _("posted a message"),
    "message.unpinned": _("unpinned a message"),
    "plan.applied": _(
        "applied plan {number}: {created} made, {changed} changed, {cancelled} cancelled"
    ),
    "plan.discarded": _("discarded plan {number}"),
    "plan.edited": _("changed plan {number}"),
    "plan.proposed": _("proposed plan {number} of {items} cards"),
    "question.lapsed": _("found that nobody answered in time: {question}"),
    "remark.reopened": _("opened a remark again"),
    "remark.resolved": _("resolved a remark"),
    "salvage.adopted": _("adopted what attempt {attempt} left behind as checkpoint C{checkpoint}"),
    "secret.removed": _("removed the secret {name}"),
    "secret.set": _("set the secret {name}"),
    "step.failed": _("failed in step {step}"),
    "step.skipped": _("left out step {step}"),
    "step.started": _("began step {step}"),
    "step.succeeded": _("finished step {step}"),
    "template.deleted": _("deleted the workflow template {template}"),
    "template.saved": _("saved the workflow template {template}"),
}

#: What a changed field of a card is called.
_FIELDS: dict[str, Any] = {
    "title": _("title"),
    "description": _("description"),
    "goal": _("goal"),
    "priority": _("priority"),
    "labels": _("labels"),
    "requires": _("requirements"),
    "workflow": _("workflow"),
    "inputs": _("inputs"),
    "max_attempts": _("number of tries"),
    "review_required": _("review"),
    "due_at": _("due date"),
    "estimate": _("estimate"),
    "covers": _("criteria"),
    "budgets": _("budgets"),
    "depends_on": _("dependencies"),
}


def told(event: Event, columns: Mapping[str, str]) -> str:
    """Return what was done; ``columns`` gives the names of columns by id."""
    words = _WORDS.get(event.kind)
    if words is None:
        noun, _dot, done = event.kind.partition(".")
        return f"{done.replace('_', ' ')} a {noun}"
    data = _Spelled(event.data)
    if event.kind == "card.moved":
        if event.data.get("from") == event.data.get("to"):
            words = _("ranked it in {to}")
        for end in ("from", "to"):
            data[end] = columns.get(str(event.data.get(end))) or gettext("another column")
    elif event.kind == "card.merged" and not event.data.get("into"):
        words = _("put checkpoint C{checkpoint} on the branch {branch}")
    elif event.kind == "card.edited":
        changed = [str(_FIELDS.get(name, name)) for name in event.data.get("changed") or []]
        data["changed"] = ", ".join(changed) or gettext("fields")
    elif event.kind == "plan.proposed":
        n = event.data.get("items") or 0
        words = ngettext(
            "proposed plan {number} of {items} card", "proposed plan {number} of {items} cards", n
        )
    said = str(words).format_map(data).rstrip(":： ")
    for further, fields in _further(event):
        said = str(further).format(said=said, **fields)
    return said


def _further(event: Event) -> list[tuple[Any, dict[str, Any]]]:
    """Return what goes on from the sentence ``{said}``, and what stands in it."""
    data, found = event.data, []
    if data.get("checkpoint") and event.kind.startswith("step."):
        words = _("{said} and saved checkpoint C{checkpoint}")
        found.append((words, {"checkpoint": data["checkpoint"]}))
    if data.get("in_doubt") and event.kind == "step.started":
        found.append((_("{said}, in doubt: an earlier try never said how it ended"), {}))
    if data.get("because") and event.kind == "card.cancelled":
        found.append((_("{said}: {because}"), {"because": data["because"]}))
    if data.get("revoked"):
        found.append((_("{said}, which ended attempt {attempt}"), {"attempt": data["revoked"]}))
    return found


class _Spelled(dict[str, Any]):
    """Event data in which nothing is missing."""

    def __missing__(self, name: str) -> str:
        return ""
