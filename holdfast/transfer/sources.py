"""The formats, each read into a plan. Nothing here speaks to a server."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.transfer.plan import (
    KINDS,
    PRIORITIES,
    Place,
    Plan,
    PlannedCard,
    PlannedDecision,
    SourceError,
    priority_in,
    reference,
)
from holdfast.transfer.reading import front_matter, json_of, lines_of, text_of, word, words

_ITEM = re.compile(r"^([ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]+\[([ xX/!?])\][ \t]+(.*)$")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.*)$")
_FENCE = re.compile(r"^[ \t]*(```|~~~)")
_CARD, _CARD_END = "<!-- card {", "} -->"
_GOAL = re.compile(r"^<!-- goal (\{.*\}) -->[ \t]*$")
MARKS = {" ": "backlog", "/": "in_progress", "!": "blocked", "?": "review", "x": "completed"}
DONE = {"done", "closed", "complete", "completed", "archived"}
_STATUS = {
    **dict.fromkeys(DONE, "completed"),
    **dict.fromkeys(("in_progress", "doing", "started", "hooked"), "in_progress"),
    **dict.fromkeys(("in_review", "review", "needs_review"), "review"),
    "blocked": "blocked",
    **dict.fromkeys(("to_do", "todo", "open", "draft", "deferred", "pinned", "backlog"), "backlog"),
}


def _kind(status: str, plan: Plan, place: Place) -> str:
    found = _STATUS.get(re.sub(r"[\s-]+", "_", status.casefold()))
    if found is None and status:
        plan.warnings.append(
            f"{place}: the status {status!r} is not known; it goes to the backlog."
        )
    return found or "backlog"


def _note(raw: str, plan: Plan, place: Place) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        plan.problems.append(f"{place}: the note in the comment is no JSON.")
        return {}
    return found if isinstance(found, dict) else {}


def markdown(path: Path, name: str, plan: Plan) -> None:
    """Each ``- [ ]`` is a card, the heading above it its goal; an item waits for those in it."""
    goal: str | None = None
    seen: dict[tuple[str | None, str], int] = {}
    open_items: list[tuple[int, dict[str, Any]]] = []
    drafts: list[dict[str, Any]] = []
    fenced = False
    for number, line in lines_of(text_of(path)):
        place = Place(str(path), number)
        item = None if fenced else _ITEM.match(line)
        if item:
            indent = len(item[1].expandtabs(4))
            while open_items and open_items[-1][0] >= indent:
                open_items.pop()
            title, note = item[3].rstrip(), {}
            if title.endswith(_CARD_END) and (begin := title.rfind(_CARD)) >= 0:
                note = _note(title[begin + len(_CARD) - 1 : -len(" -->")], plan, place)
                title = title[:begin].rstrip()
            key = (goal, title)
            seen[key] = seen.get(key, 0) + 1
            nth = [str(seen[key])] if seen[key] > 1 else []
            known = word(note.get("id"))
            ref = (
                f"holdfast:{known}"
                if known
                else reference("markdown", name, goal or "", title, *nth)
            )
            needs = [f"holdfast:{other}" for other in words(note.get("depends_on"))]
            level = note.get("priority")
            draft = {
                "ref": ref[:200],
                "title": title,
                "place": place,
                "kind": MARKS[item[2].lower()],
                "priority": level if level in range(5) and not isinstance(level, bool) else 3,
                "labels": tuple(words(note.get("labels"))),
                "goal": goal,
                "depends_on": needs,
                "lines": [],
            }
            if open_items:
                open_items[-1][1]["depends_on"].append(draft["ref"])
            open_items.append((indent, draft))
            drafts.append(draft)
            continue
        if _FENCE.match(line):
            fenced = not fenced
        indented = line[:1] in (" ", "\t")
        if open_items and (indented or not line.strip()):
            stripped = line.strip()
            quoted = stripped.startswith(">") and indented
            kept = line.lstrip()[1:].removeprefix(" ") if quoted else stripped
            open_items[-1][1]["lines"].append((quoted, kept))
            continue
        if fenced or _FENCE.match(line):
            continue
        open_items = []
        if heading := _HEADING.match(line):
            named = heading[1].rstrip()
            closed = named.rstrip("#")
            named = closed.rstrip() if not closed or closed[-1].isspace() else named
            goal = plan.goal(named) if named else None
        elif (told := _GOAL.match(line)) and goal is not None:
            note = _note(told[1], plan, place)
            plan.goals[goal].intent = word(note.get("intent"))
            plan.goals[goal].criteria = words(note.get("criteria"))
    for draft in drafts:
        lines = draft.pop("lines")
        quotes = [text for quoted, text in lines if quoted]
        description = "\n".join(quotes or [text for _, text in lines]).strip("\n")
        plan.add(
            PlannedCard(
                **{**draft, "depends_on": tuple(draft["depends_on"])}, description=description
            )
        )
    used = {card.goal for card in plan.cards.values()}
    plan.goals = {ref: goal for ref, goal in plan.goals.items() if ref in used}
    if not plan.cards and not plan.problems:
        raise SourceError(f"{path} has no checklist in it: no line begins with `- [ ]`.")


def beads(path: Path, name: str, plan: Plan) -> None:
    """Each line is an issue: epics are goals, ``blocks`` are dependencies."""
    rows: dict[str, tuple[Place, dict[str, Any]]] = {}
    for number, line in lines_of(text_of(path)):
        if not line.strip():
            continue
        place = Place(str(path), number)
        try:
            row = json_of(line, str(path), number)
        except SourceError as error:
            plan.problems.append(str(error))
            continue
        if not isinstance(row, dict) or not word(row.get("id")):
            plan.problems.append(f"{place} is no issue with an id.")
        elif word(row["id"]) in rows:
            first = rows[word(row["id"])][0]
            plan.problems.append(f"{place}: {word(row['id'])} is there already, at {first}.")
        elif word(row.get("status")) == "tombstone":
            plan.warnings.append(f"{place}: {word(row['id'])} was deleted; it is left out.")
        else:
            rows[word(row["id"])] = place, row
    goals: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    links: dict[str, list[tuple[str, str]]] = {}
    for key, (_, row) in rows.items():
        if word(row.get("issue_type")) == "epic":
            goals[key] = plan.goal(word(row.get("title")) or key)
            plan.goals[goals[key]].intent = word(row.get("description"))
            plan.goals[goals[key]].criteria = words(row.get("acceptance_criteria"))
        listed = row.get("dependencies")
        links[key] = [
            (word(link.get("type")) or "blocks", word(link.get("depends_on_id")))
            for link in (listed if isinstance(listed, list) else [])
            if isinstance(link, dict)
        ]
    for key in rows:
        for kind, other in links[key]:
            if kind == "parent-child" and other in goals and key not in goals:
                members.setdefault(other, []).append(key)
    for key, (place, row) in rows.items():
        if key in goals:
            if any(kind == "blocks" for kind, _ in links[key]):
                plan.warnings.append(f"{place}: what blocks the epic {key} is left out.")
            continue
        parents = [other for kind, other in links[key] if kind == "parent-child"]
        needs: list[str] = []
        for kind, other in links[key]:
            if kind == "blocks":
                needs += [m for m in members[other] if m != key] if members.get(other) else [other]
        needs = [other for other in needs if other not in goals]
        level = row.get("priority", 2)
        status = word(row.get("status"))
        parts = [word(row.get("description"))]
        for field, title in (
            ("design", "Design"),
            ("acceptance_criteria", "Acceptance criteria"),
            ("notes", "Notes"),
        ):
            if word(row.get(field)):
                parts.append(f"## {title}\n{word(row[field])}")
        found = [other for kind, other in links[key] if kind == "discovered-from"]
        if found:
            parts.append("Discovered from " + ", ".join(found) + ".")
        labels = words(row.get("labels"))
        labels += [status] if status == "deferred" else []
        kind = word(row.get("issue_type"))
        labels += [kind] if kind not in ("", "task") else []
        plan.add(
            PlannedCard(
                reference("beads", key),
                word(row.get("title")),
                place,
                "\n\n".join(filter(None, parts)),
                _kind(status, plan, place),
                level if isinstance(level, int) and level in range(5) else 2,
                tuple(labels),
                next((goals[p] for p in parents if p in goals), None),
                tuple(reference("beads", other) for other in needs),
            )
        )


def github(path: Path, name: str, plan: Plan) -> None:
    """Issues as REST or ``gh issue list --json`` give them; pull requests are left out."""
    text = text_of(path)
    found = json_of(text, str(path))
    if isinstance(found, dict):
        found = found.get("items", [found])
    if not isinstance(found, list):
        raise SourceError(f"{path}:1 is no list of issues.")
    if found and all(isinstance(page, list) for page in found):  # gh api --paginate --slurp
        found = [issue for page in found for issue in page]
    pulls = 0
    for nth, issue in enumerate(found, 1):
        place = Place(f"{path} (issue {nth} of the list)")
        if not isinstance(issue, dict) or not isinstance(issue.get("number"), int):
            plan.problems.append(f"{place} has no number.")
            continue
        url = word(issue.get("html_url")) or word(issue.get("url"))
        if "pull_request" in issue or "/pull/" in url:
            pulls += 1
            continue
        where = re.search(r"github[^/]*/(?:repos/)?([^/]+/[^/]+)/issues/", url)
        listed = issue.get("labels")
        labels = [
            word(label.get("name") if isinstance(label, dict) else label)
            for label in (listed if isinstance(listed, list) else [])
        ]
        milestone = issue.get("milestone")
        title = word(milestone.get("title")) if isinstance(milestone, dict) else ""
        goal = plan.goal(title) if title else None
        if goal and isinstance(milestone, dict) and not plan.goals[goal].intent:
            plan.goals[goal].intent = word(milestone.get("description"))
        people = issue.get("assignees")
        logins = [word(p.get("login")) for p in (people or []) if isinstance(p, dict)]
        parts = [word(issue.get("body"))]
        parts += [f"Assigned to {', '.join(logins)}."] if logins else []
        parts += [url] if url else []
        plan.add(
            PlannedCard(
                reference("github", where[1] if where else name, str(issue["number"])),
                word(issue.get("title")),
                place,
                "\n\n".join(filter(None, parts)),
                _kind(word(issue.get("state")), plan, place),
                priority_in(labels),
                tuple(labels),
                goal,
            )
        )
    if pulls:
        plan.warnings.append(f"{path}: {pulls} pull requests are left out.")


def backlog(path: Path, name: str, plan: Plan) -> None:
    """A folder of Backlog.md: tasks, completed tasks, and decisions."""
    root = path / "backlog" if (path / "backlog" / "tasks").is_dir() else path
    parsed: list[tuple[str, Place, dict[str, Any], str]] = []
    for part in ("tasks", "completed"):
        for file in sorted((root / part).glob("*.md")):
            if file.name.casefold() == "readme.md":
                continue
            place = Place(str(file), 1)
            try:
                head, body = front_matter(text_of(file), str(file))
            except SourceError as error:
                plan.problems.append(str(error))
                continue
            if not word(head.get("id")):
                plan.problems.append(f"{place}: the front matter has no id.")
                continue
            parsed.append((part, place, head, body))
    parents: dict[str, list[str]] = {}
    for _, _, head, _ in parsed:
        if word(head.get("parent_task_id")):
            parents.setdefault(_task(head["parent_task_id"]), []).append(_task(head["id"]))
    for part, place, head, body in parsed:
        key = _task(head["id"])
        milestone = word(head.get("milestone"))
        status = "done" if part == "completed" else word(head.get("status"))
        needs = [_task(other) for other in words(head.get("dependencies"))]
        needs += parents.get(key, [])
        level = PRIORITIES.get(word(head.get("priority")).casefold(), 3)
        plan.add(
            PlannedCard(
                reference("backlog", name, key),
                word(head.get("title")),
                place,
                re.sub(
                    r"^<!-- (?:AC|DOD|SECTION:\w+):(?:BEGIN|END) -->\n?", "", body, flags=re.M
                ).strip(),
                _kind(status, plan, place),
                level,
                tuple(words(head.get("labels"))),
                plan.goal(milestone) if milestone else None,
                tuple(reference("backlog", name, other) for other in needs),
            )
        )
    for file in sorted((root / "decisions").glob("*.md")):
        try:
            head, body = front_matter(text_of(file), str(file))
        except SourceError as error:
            plan.problems.append(str(error))
            continue
        goal = plan.goals[plan.goal(name)]
        title = word(head.get("title")) or file.stem
        goal.decisions.append(PlannedDecision(title[:300], body.strip()[:20_000] or title))
    if not parsed and not plan.problems:
        raise SourceError(f"{path} has no tasks/*.md of Backlog.md in it.")


def _task(value: Any) -> str:
    key = word(value).casefold()
    return f"task-{key}" if key[:1].isdigit() else key


def table(path: Path, name: str, plan: Plan) -> None:
    """A CSV file with a header: ``title`` and what else of a card its columns name."""
    text = text_of(path)
    try:
        rows = list(csv.DictReader(io.StringIO(text), dialect=_dialect(text), strict=True))
    except csv.Error as error:
        raise SourceError(f"{path} is no CSV that is read: {error}.") from None
    fields = {str(field).strip().casefold() for field in (rows[0] if rows else {})}
    if not fields & {"title", "summary"}:
        raise SourceError(f"{path}:1 has no column named title.")
    drafts = []
    for number, raw in enumerate(rows, 2):
        row = {str(field).strip().casefold(): word(value) for field, value in raw.items()}
        title = row.get("title") or row.get("summary", "")
        key = row.get("key") or row.get("id") or title
        drafts.append((Place(str(path), number), row, title, key))
    refs = {key: reference("csv", name, key) for *_, key in drafts}
    for place, row, title, key in drafts:
        level = row.get("priority", "").casefold()
        plan.add(
            PlannedCard(
                refs[key],
                title,
                place,
                row.get("description", ""),
                _kind(row.get("kind") or row.get("status") or row.get("state", ""), plan, place),
                int(level) if level in set("01234") else PRIORITIES.get(level, 3),
                tuple(filter(None, re.split(r"[;,]\s*", row.get("labels", "")))),
                plan.goal(row["goal"]) if row.get("goal") else None,
                tuple(
                    refs.get(other, reference("csv", name, other))
                    for other in re.split(r"[;,\s]+", row.get("depends_on", ""))
                    if other
                ),
            )
        )


def _dialect(text: str) -> type[csv.Dialect]:
    """Return how the columns are told apart: by commas, or as spreadsheets do elsewhere."""
    head = text.split("\n", 1)[0]
    mark = max(",;\t", key=head.count)
    return csv.excel_tab if mark == "\t" else _Semicolons if mark == ";" else csv.excel


class _Semicolons(csv.excel):
    delimiter = ";"


def exported(path: Path, name: str, plan: Plan) -> None:
    """A board as ``holdfast export --format json`` writes it."""
    found = json_of(text_of(path), str(path))
    if not isinstance(found, dict) or not isinstance(found.get("cards"), list):
        raise SourceError(f"{path} has no list of cards in it.")
    goals = {}
    listed = found.get("goals")
    for goal in listed if isinstance(listed, list) else []:
        if isinstance(goal, dict) and word(goal.get("title")):
            ref = plan.goal(word(goal["title"]))
            plan.goals[ref].intent = word(goal.get("intent"))
            told = goal.get("criteria")
            plan.goals[ref].criteria = [
                word(c.get("text")) for c in (told or []) if isinstance(c, dict)
            ]
            goals[word(goal.get("id"))] = ref
    place = Place(str(path))
    keys = {word(c.get("id")): word(c.get("key")) for c in found["cards"] if isinstance(c, dict)}
    for card in found["cards"]:
        if not isinstance(card, dict) or not word(card.get("key")):
            plan.problems.append(f"{place}: a card has no key.")
            continue
        needs = [
            word(n.get("key")) if isinstance(n, dict) else word(n)
            for n in card.get("depends_on") or []
        ]
        level = card.get("priority")
        plan.add(
            PlannedCard(
                reference("board", word(card["key"])),
                word(card.get("title")),
                place,
                word(card.get("description")),
                word(card.get("kind")) if word(card.get("kind")) in KINDS else "backlog",
                level if isinstance(level, int) and level in range(5) else 3,
                tuple(words(card.get("labels"))),
                goals.get(word(card.get("goal"))),
                tuple(reference("board", keys.get(n, n)) for n in needs),
            )
        )


READERS: dict[str, Callable[[Path, str, Plan], None]] = {
    "markdown": markdown,
    "backlog": backlog,
    "beads": beads,
    "github": github,
    "csv": table,
    "holdfast": exported,
}


def detect(path: Path) -> str:
    """Return which format the content has. Raises SourceError."""
    if path.is_dir():
        if (path / "tasks").is_dir() or (path / "backlog" / "tasks").is_dir():
            return "backlog"
        raise SourceError(f"{path} has no folder tasks, so it is no Backlog.md folder.")
    text = text_of(path).lstrip()
    if text[0] == "[" and not text.startswith("[ ]"):
        return "github"
    if path.suffix.casefold() == ".csv":
        return "csv"
    if text[0] == "{" and '"format": "holdfast"' in text[:200]:
        return "holdfast"
    if text[0] == "{":
        first = text.split("\n", 1)[0]
        return "github" if '"number"' in first or first.strip() == "{" else "beads"
    return "markdown"


def read(path: Path, format: str | None = None, name: str | None = None) -> Plan:
    """Return the plan of what is at ``path``, its cards behind what they depend on.

    ``name`` tells two sources of one format apart. What is wrong in part of it is in
    ``problems``; raises SourceError where nothing of it can be read.
    """
    plan = Plan()
    chosen = format or detect(path)
    READERS[chosen](path, name or path.resolve().name, plan)
    plan.settle()
    return plan
