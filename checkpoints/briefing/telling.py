"""What is told under each heading, from the facts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cache
from typing import Any

from boards import approaches
from boards.faults import counts
from boards.models import Attempt, Message, Race
from checkpoints.briefing.facts import MANY, Facts, Row, as_json
from checkpoints.briefing.packing import Item, Section, Text
from checkpoints.briefing.quoting import Excerpt, age, inline
from goals import discoveries

Status = Attempt.Status

#: What gets the whole of a goal or card over MCP.
LARGER = "get_briefing with a larger max_tokens"
#: So many of the items that are not written out are named.
SHORT_TITLES = 25
#: … and each by a beginning of about so many tokens at least.
BEGINNING = 7
#: Of approaches that failed in one way, so many more are named.
OTHERS = 8
_MET = {True: "met", False: "NOT met", None: "open"}


def sections(facts: Facts, now: datetime) -> list[Section]:
    """Return everything there is to tell, in the order in which it is read."""
    told = [
        _another(facts),
        _goal(facts),
        _criteria(facts, now),
        _card(facts),
        _said(facts, now),
        _stands(facts, now),
        _next(facts, now),
        _doubts(facts, now),
        _decisions(facts, now),
        _discoveries(facts, now),
        _tried(facts, now),
        _rivals(facts),
        _raced(facts),
        _parents(facts, now),
    ]
    return [section for section in told if section is not None]


def older_attempts(facts: Facts) -> int:
    """Return how many attempts lie further back than was looked."""
    return max(0, int(facts.card["fence"]) - len(facts.attempts))


# ── what is asked ────────────────────────────────────────────────────────────────────────


def _another(facts: Facts) -> Section | None:
    """That the same again is no plan, once so many attempts in a row failed in one way."""
    same, allowed = _repeated(facts), _allowed(facts)
    if same < allowed:
        return None
    line = (
        f"The last {same} attempts failed in one way. Don't do it again like that: say another"
        " approach (`PATCH` of the attempt), or block the card and ask a person. The same failure"
        " once more stops the card."
    )
    return Section(
        title="Another approach is wanted",
        what="warnings",
        weight=1,
        floor=80,
        importance=0,
        items=[Item(line)],
        fetch=f"GET /cards/{facts.card['key']}/attempts",
        tool="search_history attempts",
        listed=False,
    )


def _allowed(facts: Facts) -> int:
    defaults = facts.card["board_defaults"] or {}
    return int(defaults.get("same_failures") or approaches.SAME_FAILURES)


def _repeated(facts: Facts) -> int:
    """Return how many of the newest attempts failed in the same way, since somebody answered."""
    answers = [m["at"] for m in facts.messages if m["kind"] == Message.Kind.ANSWER]
    since = max(answers, default=None)
    first, found = None, 0
    for a in facts.attempts:
        if a["status"] in (Status.RUNNING, Status.RELEASED):
            continue
        mine = approaches.signature(a["fault"], a["error"].head)
        stops = a["status"] != Status.FAILED or not counts(a["fault"], 1)
        if stops or (since and a["started_at"] <= since) or (first is not None and mine != first):
            break
        first, found = mine, found + 1
    return found


def _goal(facts: Facts) -> Section | None:
    card = facts.card
    if card["goal_id"] is None:
        return None
    author = card["goal_author"]
    intent = card["intent"]
    items = [Item(f"{card['goal_status'].title()}: {inline(card['goal_title'], 40)}")]
    if intent:
        items[0].texts.append(Text(intent, author, "the goal's intent", trusted=True))
    items += [Item(f"- Constraint: {inline(c)}") for c in _constraints(card["goal_constraints"])]
    return Section(
        title="Goal",
        what="constraints",
        weight=13,
        floor=120,
        importance=2,
        items=items,
        fetch=_goal_path(facts),
        tool=LARGER,
        listed=False,
    )


def _constraints(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}: {_shown(child)}" for key, child in value.items()]
    listed = value if isinstance(value, list) else [value] if value else []
    return [_shown(c) for c in listed]


def _criteria(facts: Facts, now: datetime) -> Section | None:
    criteria = sorted(facts.criteria, key=lambda c: (c["met"] is True, c["number"]))
    few = len(criteria) <= 12
    items = []
    for c in criteria:
        line = f"- {c['number']}. [{_MET[c['met']]}] {inline(_whole(c['text']), 80 if few else 30)}"
        if check := c["check"]:
            line += f" (check: `{inline(_whole(check)).replace('`', chr(39))}`)"
        item = Item(line)
        if c["shown_at"] is not None:
            item.line += f" — shown {age(c['shown_at'], now)}"
            if detail := c["evidence"]:
                item.texts.append(Text(detail, c["shown_by"], "evidence", aside=True))
        items.append(item)
    total = facts.card["criteria_count"]
    return Section(
        title="Done means",
        what="criteria",
        weight=10,
        floor=60,
        importance=3,
        items=items,
        total=total,
        fetch=_goal_path(facts),
        tool=LARGER,
        rest=lambda shown: _other_criteria(criteria[shown:], total - shown),
    )


def _other_criteria(left: list[Row], count: int) -> list[str]:
    """Return the criteria that are not written out by their numbers, and shorter, as a count."""
    by: dict[str, list[int]] = {}
    for c in left:
        by.setdefault(_MET[c["met"]], []).append(c["number"])
    listed = "; ".join(f"{ranges(numbers)} {word}" for word, numbers in by.items())
    counts = ", ".join(f"{len(numbers)} {word}" for word, numbers in by.items())
    return [
        f"- Not written out: {listed}.",
        f"- and {count} more: {counts}.",
        f"- and {count} more",
    ]


def ranges(numbers: Iterable[int]) -> str:
    """Return rising numbers as people write them: "1, 3-5, 9"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _card(facts: Facts) -> Section:
    card = facts.card
    line = (
        f"State {card['state']}{', paused' if card['paused'] else ''}; priority "
        f"{card['priority']} (0 urgent, 4 none); attempts so far: {card['fence']}, "
        f"failures in a row: {card['failures']} of at most {card['max_attempts']}."
    )
    if card["labels"]:
        line += f" Labels: {inline(', '.join(map(str, card['labels'])))}."
    if card["due_at"]:
        line += f" Due {card['due_at']:%Y-%m-%d %H:%M} UTC."
    if card["review_required"]:
        line += " A person reviews the result."
    item = Item(line + _covers(facts))
    author, trusted = card["created_by"], not card["created_by"].startswith("worker:")
    if description := card["description"]:
        item.texts.append(Text(description, author, "the description", trusted=trusted))
    inputs = as_json(card["inputs"])
    if inputs and inputs.head != "{}":
        item.texts.append(Text(inputs, author, "inputs", trusted=trusted, label="Inputs:"))
    if card["blocked_reason"]:
        reason = Excerpt(card["blocked_reason"])
        item.texts.append(
            Text(reason, "this card", "the reason", label="Blocked because:", aside=True)
        )
    return Section(
        title="This card",
        what="parts of the card",
        weight=14,
        floor=60,
        importance=8,
        items=[item],
        fetch=f"GET /cards/{card['key']}",
        tool=LARGER,
        listed=False,
    )


def _covers(facts: Facts) -> str:
    """Say which criteria the card is for; what it was for before a rewording may have changed."""
    covers = sorted(set(facts.card["covers"] or []))
    standing = {c["number"] for c in facts.criteria}
    line, now = "", [n for n in covers if n in standing]
    if now:
        line += f" It is for criteri{'on' if len(now) == 1 else 'a'} {ranges(now)}."
    again = {c["replaces"]: c["number"] for c in facts.criteria if c["number"] not in now}
    if reworded := [again[n] for n in covers if n in again]:
        line += (
            f" It was for an earlier text of {ranges(sorted(reworded))}: hold it against what is "
            "asked now."
        )
    return line


def _said(facts: Facts, now: datetime) -> Section | None:
    """What people said last: the newest answer or review, what is pinned, then the others."""
    items = []
    for m in facts.messages:
        person = m["actor"].startswith("user:")
        said = Text(m["text"], m["actor"], "messages", trusted=person)
        texts = [said]
        if m["kind"] == Message.Kind.ANSWER and m["asker"]:
            question = Text(m["question"], m["asker"], "questions", label="To:")
            texts = [question, said]
            if about := m["about"]:
                texts.insert(1, Text(about, m["asker"], "questions", label="About:"))
            if reason := m["reason"]:
                texts.append(Text(reason, m["actor"], "messages", trusted=person, label="Because:"))
        name = {
            Message.Kind.ANSWER: "Answer",
            Message.Kind.REVIEW: "Sent back by a reviewer",
            Message.Kind.QUESTION: "Asked, not answered yet",
        }.get(m["kind"], "Note")
        if place := m["place"]:
            name = f"A reviewer, on line {place['line']} of {_said_inline(place['path'], 40)}"
            if quoted := place.get("text", "").strip():
                line = Text(Excerpt(quoted), "file", "the line", label="It says:", aside=True)
                texts = [line, said]
        if m["pinned"]:
            name = f"Pinned {name[0].lower()}{name[1:]}"
        items.append(Item(f"- {name}, {age(m['at'], now)}:", texts))
    return Section(
        title="What people said",
        what="messages",
        weight=20 if any(m["place"] for m in facts.messages) else 11,
        floor=60,
        importance=7,
        items=items,
        total=min(facts.card["messages_count"], MANY),
        fetch=f"GET /cards/{facts.card['key']}/messages",
        tool="search_history messages",
    )


# ── where it stands ──────────────────────────────────────────────────────────────────────


def _handover(facts: Facts) -> Row | None:
    """The newest attempt that handed over, unless a checkpoint was saved by a later one."""
    since = facts.head["attempt"] if facts.head else 0
    for a in facts.attempts:
        if a["number"] < since:
            break
        if a["status"] == Status.RELEASED and a["reason"] != "blocked":
            return a if a["outcome"] or a["next_step"] else None
    return None


def _sent_back(facts: Facts) -> Row | None:
    """The last attempt that ended, where a reviewer sent back what it handed in."""
    over = [a for a in facts.attempts if a["status"] != Status.RUNNING]
    last = over[0] if over else None
    sent_back = any(m["kind"] == Message.Kind.REVIEW for m in facts.messages)
    if last is None or last["status"] != Status.SUCCEEDED or not sent_back or not last["outcome"]:
        return None
    return last


def _stands(facts: Facts, now: datetime) -> Section:
    items = []
    handover, head = _handover(facts), facts.head
    if handover is not None and (outcome := handover["outcome"]):
        items.append(
            Item(
                f"Attempt {handover['number']} handed over {age(handover['finished_at'], now)}:",
                [Text(outcome, _worker(handover), "the handover")],
            )
        )
    if (handed_in := _sent_back(facts)) is not None:
        items.append(
            Item(
                f"Attempt {handed_in['number']} handed this in for review "
                f"{age(handed_in['finished_at'], now)}; it was sent back:",
                [Text(handed_in["outcome"], _worker(handed_in), "what was handed in")],
            )
        )
    recorded = facts.attempts[0]["steps_recorded"] if facts.attempts else 0
    if head is None:
        start = "Go on from these." if recorded else "Start from the beginning."
        items.append(Item(f"No checkpoint yet; {_steps_recorded(recorded)}. {start}"))
    else:
        items.append(
            Item(
                f"Checkpoint C{head['number']} by attempt {head['attempt']}, after step "
                f"{head['after_step']}, {age(head['at'], now)}; {_steps_recorded(recorded)}.",
                [_text(head, "summary", "the checkpoint's summary", "Done:")],
            )
        )
        if since := facts.changed_since:
            items.append(
                Item(f"Made before {', '.join(since)} of the goal: hold it against what is asked.")
            )
        items += [Item(line) for line in (_tests(head), _workspace(head), _files(head)) if line]
    if steps := _steps(facts):
        items.append(steps)
    if head is not None and (state := as_json(head["state"])):
        label = "State, as saved:"
        items.append(Item("", [Text(state, _worker(head), "the checkpoint's state", label=label)]))
    number = f"/{head['number']}" if head else ""
    return Section(
        title="Where it stands",
        what="parts of the checkpoint",
        weight=15,
        floor=70,
        importance=5,
        items=items,
        fetch=f"GET /cards/{facts.card['key']}/checkpoints{number}",
        tool="search_history checkpoints",
        listed=False,
    )


def _tests(head: Row) -> str:
    tests = head["tests"]
    if not isinstance(tests, dict):
        return ""
    counts = ", ".join(
        f"{inline(tests[name], 8)} {name}"
        for name in ("passed", "failed", "skipped")
        if tests.get(name) is not None
    )
    failing = tests.get("failing")
    names = failing if isinstance(failing, list) else []
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    list_of = ", ".join(f"`{inline(n, 24).replace('`', chr(39))}`" for n in names[:8])
    return f"Tests: {counts or 'no counts'}." + (f" Failing: {list_of}{more}." if names else "")


def _workspace(head: Row) -> str:
    space = head["workspace"]
    if not isinstance(space, dict):
        return ""
    said = []
    if space.get("commit"):
        said.append(f"commit {inline(space['commit'], 40)}")
    if space.get("base"):
        said.append(f"on {inline(space['base'], 40)}")
    changed = space.get("changed_files")
    if changed is not None:
        said.append(
            f"{inline(_count(changed), 8)} files changed, +{inline(space.get('additions', 0), 8)}"
            f" -{inline(space.get('deletions', 0), 8)}"
        )
    return f"Workspace: {', '.join(said)}." if said else ""


def _count(value: Any) -> Any:
    return len(value) if isinstance(value, list | dict) else value


def _files(head: Row) -> str:
    try:
        listed = json.loads(_whole(head["artifacts"]) or "[]")
    except ValueError:
        return "Artifacts: many."
    named = [a for a in listed if isinstance(a, dict)]
    if not named:
        return ""
    some = ", ".join(
        f"{inline(a.get('name'), 16)} ({inline(a.get('sha256'), 40)})" for a in named[:6]
    )
    return f"Artifacts: {some}" + (f" and {len(named) - 6} more." if len(named) > 6 else ".")


def _steps(facts: Facts) -> Item | None:
    """The newest steps, and how the last one failed unless it has succeeded since."""
    if not facts.steps:
        return None
    done = [f"`{s['key']}`" for s in facts.steps if s["status"] == "succeeded"][:8]
    item = Item(f"Newest recorded steps: {', '.join(done)}." if done else "No step has succeeded.")
    newest = facts.steps[0]
    if newest["status"] == "failed":
        item.line += f" The last one, `{newest['key']}`, failed."
        if error := newest["error"]:
            item.texts.append(Text(error, _worker(newest), "the last step's error"))
    return item


def _next(facts: Facts, now: datetime) -> Section | None:
    items = []
    handover, head = _handover(facts), facts.head
    told: set[str] = set()
    for row, whose in (
        (handover, f"attempt {handover['number']}" if handover else ""),
        (head, f"checkpoint C{head['number']}" if head else ""),
    ):
        step = row["next_step"] if row else Excerpt("")
        if row and step and _whole(step) not in told:
            told.add(_whole(step))
            text = Text(step, _worker(row), "the next step")
            items.append(Item(f"By {whose}:", [text]))
    review = next((m for m in facts.messages if m["kind"] == Message.Kind.REVIEW), None)
    if review is not None and (head is None or review["at"] > head["at"]):
        items.insert(0, Item("First mend what the reviewer sent the card back for."))
    answer = next((m for m in facts.messages if m["kind"] == Message.Kind.ANSWER), None)
    if answer is not None and (head is None or answer["at"] > head["at"]):
        items.insert(0, Item("Go on from the answer that stands above; it came after all this."))
    if not items:
        return None
    return Section(
        title="Next step",
        what="next steps",
        weight=9,
        floor=90,
        importance=1,
        items=items,
        fetch=f"GET /cards/{facts.card['key']}/checkpoints",
        tool="search_history checkpoints",
        listed=False,
    )


def _doubts(facts: Facts, now: datetime) -> Section:
    items = []
    for s in facts.doubts:
        title = f" {_said_inline(s['title'], 30)}" if s["title"] else ""
        begun = f"begun by attempt {s['attempt']}, {age(s['started_at'], now)}"
        items.append(Item(f"- `{s['key']}`{title}, {begun}"))
    return Section(
        title="Steps in doubt",
        what="steps in doubt",
        weight=5,
        floor=70,
        importance=6,
        items=items,
        total=facts.card["doubts_count"],
        fetch=f"GET /cards/{facts.card['key']}/steps",
        tool="search_history steps",
        rest=_and_more(facts.card["doubts_count"]),
        lead="Begun, and never said how they ended. Look what they did before doing them again.",
    )


# ── what is known ────────────────────────────────────────────────────────────────────────


def _decisions(facts: Facts, now: datetime) -> Section:
    items = []
    for d in facts.decisions:
        why = d["rationale"]
        texts = [Text(why, d["actor"], "rationales", aside=True)] if why else []
        paths = ", ".join(map(str, d["files"][:6])) + (" …" if len(d["files"]) > 6 else "")
        about = f", about {_said_inline(paths, 40)}" if paths else ""
        line = f"- {_said_inline(d['title'])}{_pin(d)}{about}, {age(d['at'], now)}"
        items.append(Item(line, texts))
    titles = [d["title"] for d in facts.decisions]
    short = _InShort("In force, too", titles, facts.card["decisions_count"])
    return Section(
        title="Decisions in force",
        what="decisions in force",
        weight=11,
        floor=50,
        importance=4,
        items=items,
        total=facts.card["decisions_count"],
        fetch=_memory_path(facts, "decisions"),
        tool="search_history decisions",
        rest=short,
        briefly=short.briefly,
    )


def _discoveries(facts: Facts, now: datetime) -> Section:
    return Section(
        title="Open discoveries",
        what="open discoveries",
        weight=8,
        floor=40,
        importance=10,
        items=[_discovery(d, now) for d in facts.discoveries],
        total=facts.card["discoveries_count"],
        fetch=_memory_path(facts, "discoveries"),
        tool="search_history discoveries",
    )


def _discovery(d: Row, now: datetime, times: int = 1) -> Item:
    detail = d["detail"]
    kind = f"{d['severity']} {d['kind'].replace('_', ' ')}"
    times = max(times, d["seen"])
    often = f", ×{times}, the last" if times > 1 else ""
    texts = [Text(detail, d["actor"], "discoveries' details", aside=True)] if detail else []
    return Item(
        f"- [{kind}] {_said_inline(d['title'])}{_pin(d)}{often or ','} {age(d['at'], now)}", texts
    )


def _tried(facts: Facts, now: datetime) -> Section:
    """What failed and why: the same failure once, with how often; and dead ends by name."""
    items = []
    for same in _alike(facts.attempts):
        a = same[0]
        silent = a["status"] == Status.EXPIRED and not a["error"]
        ended = "stopped answering" if silent else "failed"
        if len(same) > 1:
            who = f"×{len(same)}, attempts {_numbers(same)} {ended}, the last {{}}"
        else:
            who = f"Attempt {a['number']} {ended} {{}}"
        item = Item("- " + who.format(age(a["finished_at"], now)))
        for name, label, what in (
            ("error", "Error:", "errors"),
            ("approach", "Approach:", "approaches"),
            ("lesson", "Lesson:", "lessons"),
        ):
            told = next((one for one in same if one[name]), None)
            if told is not None:
                item.texts.append(Text(told[name], _worker(told), what, label=label, aside=True))
            if told is not None and name == "approach":
                item.texts += _other_approaches(same, told)
        if silent:
            item.line += (
                "; perhaps what it did kills its worker"
                if len(same) > 1
                else "; that says nothing against its approach"
            )
        items.append(item)
    dead_ends = [(_discovery(d, now, n), d["title"]) for d, n in _once(facts.dead_ends)]
    # By turns, so that many of the one do not hide the other.
    failed = [(item, "") for item in items]
    mixed = [one for pair in zip(failed, dead_ends, strict=False) for one in pair]
    mixed += failed[len(dead_ends) :] + dead_ends[len(failed) :]
    mixed += [(_tried_elsewhere(a, now), "") for a in facts.elsewhere]
    mixed += [(_revived(d, now), "") for d in facts.revived]
    unread = facts.card["dead_ends_count"] - len(facts.dead_ends)
    total = len(mixed) + unread
    short = _InShort("Dead ends, too", [title for _, title in mixed], total)
    return Section(
        title="Tried and failed",
        what="failures and dead ends",
        weight=12,
        floor=60,
        importance=9,
        items=[item for item, _ in mixed],
        total=total,
        fetch=f"GET /cards/{facts.card['key']}/attempts",
        tool="search_history attempts, discoveries",
        rest=short,
        briefly=short.briefly,
        lead="Don't repeat it unless you can say what is different this time.",
    )


#: What decides a race, as a racer is told.
_DECIDED_BY = {
    Race.Choose.FIRST: "the first to be completed wins",
    Race.Choose.PERSON: "all stop in review, and a person chooses one",
    Race.Choose.SCORE: "each is scored when it is done, and the highest score wins",
}


def _rivals(facts: Facts) -> Section | None:
    """How the others of a race that is under way go about it, so that this one goes another way."""
    card = facts.card
    if card["race_id"] is None or card["race_decided_at"] is not None:
        return None
    rivals = [r for r in facts.racers if r["race"] == card["race_id"]]
    items = []
    for r in rivals:
        item = Item(f"- {r['key']} ({r['state']})")
        if text := _approach(r):
            item.texts.append(text)
        items.append(item)
    decided = _DECIDED_BY[Race.Choose(card["race_choose"])]
    return Section(
        title="The race",
        what="rivals",
        weight=6,
        floor=60,
        importance=7,
        items=items,
        fetch=f"GET /cards/{card['key']}/race",
        tool="get_race",
        lead=f"These start from the same point as this card; {decided}. Take none of their "
        "approaches: find one that differs.",
    )


def _raced(facts: Facts) -> Section:
    """What was tried in races that are over, and lost: how, what was learnt, and why it lost."""
    items = []
    for r in facts.racers:
        if r["decided_at"] is None or r["key"] == r["winner"]:
            continue
        score = f", score {r['score']:g}" if r["score"] is not None else ""
        item = Item(f"- {r['key']}{score}: {inline(r['lost'] or 'It was cancelled.', 60)}")
        if text := _approach(r):
            item.texts.append(text)
        told, what = (r["lesson"], "lessons") if r["lesson"] else (r["summary"], "summaries")
        if told:
            label = "Lesson:" if what == "lessons" else "Got as far as:"
            item.texts.append(Text(told, _worker(r), what, label=label, aside=True))
        items.append(item)
    return Section(
        title="Tried in a race and lost",
        what="lost racers",
        weight=8,
        floor=50,
        importance=9,
        items=items,
        fetch=f"GET /cards/{facts.card['key']}/race",
        tool="get_race",
        lead="Another approach was kept. Don't go back to one of these without a reason.",
    )


def _approach(racer: Row) -> Text | None:
    """Return how a racer goes about it: as its attempt said, else as it was declared."""
    if said := racer["approach"]:
        return Text(said, _worker(racer), "approaches", label="Approach:", aside=True)
    if declared := racer["declared"]:
        return Text(declared, racer["declared_by"], "approaches", label="Approach:", aside=True)
    return None


def _tried_elsewhere(a: Row, now: datetime) -> Item:
    """How a like approach failed at another card of the goal."""
    item = Item(f"- At {a['key']}, attempt {a['number']} failed {age(a['finished_at'], now)}")
    for name, label, what in (
        ("approach", "Approach:", "approaches"),
        ("error", "Error:", "errors"),
        ("lesson", "Lesson:", "lessons"),
    ):
        if text := a[name]:
            item.texts.append(Text(text, _worker(a), what, label=label, aside=True))
    return item


def _revived(d: Row, now: datetime) -> Item:
    """A dead end that may be none any more, and why."""
    line = f"- Perhaps worth another try: {_said_inline(d['title'])}, {age(d['at'], now)}, because"
    return Item(line, [Text(d["because"], d["actor"], "reasons", aside=True)])


def _alike(attempts: Iterable[Row]) -> list[list[Row]]:
    """Return the failed attempts, those with the same failure together, the newest first."""
    merged: dict[str, list[Row]] = {}
    for a in attempts:
        if a["status"] in (Status.FAILED, Status.EXPIRED):
            words = f"{a['status']} {a['approach'].head} {a['error'].head}"[:400]
            merged.setdefault(approaches.alike_by(words), []).append(a)
    return list(merged.values())


def _other_approaches(same: list[Row], told: Row) -> list[Text]:
    """Return what else was tried that failed in the same way, where it differs by a number."""
    others = {" ".join(_whole(a["approach"]).split()): a for a in same if a["approach"]}
    others.pop(" ".join(_whole(told["approach"]).split()), None)
    if not others:
        return []
    listed = "; ".join(inline(words, 30) for words in list(others)[:OTHERS])
    more = f"; and {len(others) - OTHERS} more" if len(others) > OTHERS else ""
    return [Text(Excerpt(listed + more), "workers", "approaches", label="As did:", aside=True)]


def _once(dead_ends: Iterable[Row]) -> list[tuple[Row, int]]:
    """Return each dead end once, the first of its title, with how often it was recorded.

    Those that differ in a number are two: the one version is none of the other.
    """
    merged: dict[str, list[Row]] = {}
    for d in dead_ends:
        merged.setdefault(discoveries.signature_of(d["kind"], d["title"]), []).append(d)
    return [(same[0], len(same)) for same in merged.values()]


def _numbers(attempts: list[Row]) -> str:
    numbers = sorted(a["number"] for a in attempts)
    listed = ranges(numbers)
    return listed if listed.count(",") < 6 else f"{numbers[0]} to {numbers[-1]}"


def _parents(facts: Facts, now: datetime) -> Section:
    items = []
    for p in facts.parents:
        item = Item(f"- {p['key']} ({p['state']}) {_said_inline(p['title'])}")
        if p["finished_at"] is not None:
            item.line += f", {age(p['finished_at'], now)}"
            if outcome := p["outcome"]:
                item.texts.append(Text(outcome, _worker(p), "results of other cards", aside=True))
            if result := as_json(p["result"]):
                label = "Result:"
                item.texts.append(Text(result, _worker(p), "results of other cards", label=label))
        items.append(item)
    return Section(
        title="Results this card builds on",
        what="cards it depends on",
        weight=7,
        floor=40,
        importance=11,
        items=items,
        total=facts.card["parents_count"],
        fetch=f"GET /cards/{facts.card['key']}",
        tool="get_briefing of each",
    )


# ── words ────────────────────────────────────────────────────────────────────────────────


def _steps_recorded(n: int) -> str:
    return f"{n} step{'' if n == 1 else 's'} recorded"


def _pin(row: Row) -> str:
    return " [pinned]" if row["pinned"] else ""


def _and_more(total: int) -> Callable[[int], list[str]]:
    return lambda shown: [f"- and {total - shown} more"]


class _InShort:
    """What stands for items that are left out: their titles, shorter and shorter, then a count."""

    def __init__(self, lead: str, titles: list[str], total: int) -> None:
        self.lead, self.titles, self.total = lead, titles, total
        # Asked for once for each item that might be the last.
        self.said, self.cut = cache(_said_inline), cache(_beginning)

    def __call__(self, shown: int) -> Iterator[str]:
        """Give the lines for what comes after the first ``shown``, each shorter than the last."""
        left = self._left(shown)
        if left:
            for most in (80, 40, 20, 12):
                yield self._line(shown, "; ".join(self.said(t, most) for t in left), len(left))
            for most in (12, 9):
                yield self._bare(shown, left, most)
            for named in (SHORT_TITLES, 12, 6, 3):
                yield self._bare(shown, left[:named], BEGINNING)
        yield f"- and {self.total - shown} more"

    def briefly(self, shown: int) -> str:
        """Return the shortest line that names as many as are named at all."""
        left = self._left(shown)
        return self._bare(shown, left, BEGINNING) if left else ""

    def _left(self, shown: int) -> list[str]:
        return [title for title in self.titles[shown:] if title][:SHORT_TITLES]

    def _bare(self, shown: int, left: list[str], most: int) -> str:
        return self._line(shown, f"“{' | '.join(self.cut(t, most) for t in left)}”", len(left))

    def _line(self, shown: int, listed: str, named: int) -> str:
        unsaid = self.total - shown - named
        return f"- {self.lead}: {listed}" + (f"; and {unsaid} more" if unsaid else "")


def _goal_path(facts: Facts) -> str:
    return f"GET /goals/{facts.card['goal_id']}"


def _memory_path(facts: Facts, what: str) -> str:
    if facts.card["goal_id"] is None:
        return f"search_history {what}"
    return f"{_goal_path(facts)}/{what}"


def _worker(row: Row) -> str:
    return f"worker:{row['worker']}"


def _said_inline(text: str, tokens: int = 80) -> str:
    """Return somebody else's short text on one line, in quotes that it can't contain."""
    return "“" + re.sub("[“”]", '"', inline(text, tokens)) + "”"


def _beginning(text: str, tokens: int) -> str:
    """Return how somebody else's short text begins, for a list between one pair of quotes."""
    begun = inline(text, tokens + 2).removesuffix(" …")  # which takes two
    return re.sub("[“”|]", "'", begun)


def _text(row: Row, name: str, what: str, label: str = "") -> Text:
    return Text(row[name], _worker(row), what, label=label)


def _whole(text: Excerpt) -> str:
    return text.head + text.tail


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
