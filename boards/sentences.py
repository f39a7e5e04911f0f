"""Events in words, for people: what an actor did, without the actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from events.models import Event

#: What was done, by kind of event; ``{…}`` are fields of its data.
_WORDS = {
    "amendment.withdrawn": "withdrew amendment {number} of the goal {title}",
    "attempt.described": "goes about it like this: {approach}",
    "attempt.expired": "ended attempt {attempt}: {worker} was not heard of any more",
    "attempt.failed": "failed in attempt {attempt}: {error}",
    "attempt.reinstated": "went on with attempt {attempt} after all",
    "attempt.released": "handed it over after attempt {attempt}: {summary}",
    "attempt.salvaged": "kept what attempt {attempt} still held: {summary}",
    "budget.exhausted": "stopped it: {said}",
    "budget.restored": "let it go on: {said}",
    "card.archived": "archived it",
    "card.answered": "answered a question",
    "card.approved": "approved it",
    "card.blocked": "got stuck in attempt {attempt}: {reason}",
    "card.brought": "brought it from elsewhere, where it was {was}",
    "card.cancelled": "cancelled it",
    "card.claimed": "took it as attempt {attempt}",
    "card.completed": "completed it: {summary}",
    "card.created": "made the card",
    "card.deleted": "deleted it",
    "card.edited": "changed its {changed}",
    "card.merged": "merged checkpoint C{checkpoint} into {into}",
    "card.moved": "moved it from {from} to {to}",
    "card.paused": "paused it",
    "card.rejected": "sent it back: {reason}",
    "card.forked": "forked it from checkpoint C{checkpoint}",
    "card.restored": "brought it back from the archive",
    "card.resumed": "let workers have it again",
    "card.retried": "gave it a fresh set of attempts",
    "card.rewound": "put it back to checkpoint C{checkpoint}",
    "card.won": "let it win its race",
    "card.split": "split it into parts at checkpoint C{checkpoint}",
    "card.joined": "joined its parts as checkpoint C{checkpoint}",
    "card.submitted": "asked for a review: {summary}",
    "checkpoint.named": "called checkpoint C{checkpoint} {tag}",
    "checkpoint.saved": "saved checkpoint C{checkpoint}: {summary}",
    "checkpoints.dropped": "let go of the contents of older checkpoints",
    "criterion.met": "showed that criterion {criterion} is met: {text}",
    "criterion.regressed": "found what broke criterion {criterion}: {said}",
    "criterion.unmet": "showed that criterion {criterion} is not met: {text}",
    "decision.recorded": "recorded a decision: {title}",
    "discovery.recorded": "recorded a discovery: {title}",
    "discovery.resolved": "resolved a discovery",
    "executor.forgotten": (
        "heard no more of the host {host}, where steps of the kind {steps} rested"
    ),
    "executor.recovered": "found steps of the kind {steps} to work again on the host {host}",
    "executor.rested": (
        "had steps of the kind {steps} rest on the host {host} for {seconds} s: they failed this "
        "card and others"
    ),
    "goal.achieved": "achieved the goal {title}: {said}",
    "goal.checked": "had the goal {title} checked: {said}",
    "goal.met": "found the goal {title} met: {said}",
    "goal.reopened": "made the goal {title} active again: {said}",
    "host.forgotten": "heard no more of the host {host}, which rested",
    "host.recovered": "found the host {host} to work again",
    "host.rested": "had the host {host} rest for {seconds} s: it failed this card and others",
    "log.appended": "wrote output in {step}",
    "message.posted": "posted a message",
    "plan.applied": (
        "applied plan {number}: {created} made, {changed} changed, {cancelled} cancelled"
    ),
    "plan.discarded": "discarded plan {number}",
    "plan.edited": "changed plan {number}",
    "plan.proposed": "proposed plan {number} of {items} cards",
    "question.lapsed": "found that nobody answered in time: {question}",
    "remark.reopened": "opened a remark again",
    "remark.resolved": "resolved a remark",
    "salvage.adopted": "adopted what attempt {attempt} left behind as checkpoint C{checkpoint}",
    "secret.removed": "removed the secret {name}",
    "secret.set": "set the secret {name}",
    "step.failed": "failed in step {step}",
    "step.skipped": "left out step {step}",
    "step.started": "began step {step}",
    "step.succeeded": "finished step {step}",
    "template.deleted": "deleted the workflow template {template}",
    "template.saved": "saved the workflow template {template}",
}


def told(event: Event, columns: Mapping[str, str]) -> str:
    """Return what was done; ``columns`` gives the names of columns by id."""
    words = _WORDS.get(event.kind)
    if words is None:
        noun, _, done = event.kind.partition(".")
        return f"{done.replace('_', ' ')} a {noun}"
    data = _Spelled(event.data)
    if event.kind == "card.moved":
        if event.data.get("from") == event.data.get("to"):
            words = "ranked it in {to}"
        for end in ("from", "to"):
            data[end] = columns.get(str(event.data.get(end)), "another column")
    elif event.kind == "card.merged" and not event.data.get("into"):
        words = "put checkpoint C{checkpoint} on the branch {branch}"
    elif event.kind == "card.edited":
        data["changed"] = ", ".join(map(str, event.data.get("changed") or [])) or "fields"
    said = words.format_map(data).rstrip(": ")
    if event.data.get("checkpoint") and event.kind.startswith("step."):
        said += f" and saved checkpoint C{event.data['checkpoint']}"
    if event.data.get("in_doubt") and event.kind == "step.started":
        said += ", in doubt: an earlier try never said how it ended"
    if event.kind == "card.cancelled" and event.data.get("because"):
        said += f": {event.data['because']}"
    if event.data.get("revoked"):
        said += f", which ended attempt {event.data['revoked']}"
    return said


class _Spelled(dict[str, Any]):
    """Event data in which nothing is missing."""

    def __missing__(self, name: str) -> str:
        return ""
