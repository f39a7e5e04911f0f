"""The page of a goal, the list of a board's goals, and the output behind a piece of evidence.

However many cards, attempts and criteria's proofs there are, a page takes the same statements
and has a bounded size: what is long is cut off, and says where the rest is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F, Prefetch, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from boards import activity, allowances, graph, lookup, missing, progress
from boards.insights.asking import zone_of
from boards.models import Attempt, Board, Card
from boards.planning import wanting
from boards.views import for_people, frame, may_operate, may_write, principal
from checkpoints import artifacts, lineage
from events import log
from goals import checks, discoveries
from goals.criteria import standing
from goals.models import Criterion, Decision, Discovery, Evidence, Goal, Regression
from kernel.access import Role, hidden
from kernel.limits import whole_number

#: Rows of one kind that a tab shows.
ROWS = 50
CARDS_PER_STATE = 25
EVIDENCE_SHOWN = 5
RUNS_SHOWN = 5
#: Of how an attempt ended.
ENDED_LETTERS = 200
#: How much of an output the page shows; all of it can be downloaded.
OUTPUT_BYTES = 512 * 1024


@dataclass(slots=True)
class Proof:
    """A piece of evidence with where it came from."""

    evidence: Evidence
    attempt: Attempt | None = None
    card: Card | None = None

    @property
    def where(self) -> str:
        """The address at which what the attempt did can be seen; empty where there is none."""
        if self.card is None or self.attempt is None:
            return ""
        base = f"/cards/{self.card.key}"
        if self.evidence.step:
            return f"{base}?tab=log&attempt={self.attempt.number}&step={self.evidence.step}"
        if self.evidence.checkpoint:
            return f"{base}?tab=checkpoints&c={self.evidence.checkpoint}"
        return f"{base}?tab=log&attempt={self.attempt.number}"

    @property
    def gist(self) -> str:
        """The first line of what it says."""
        return self.evidence.detail.strip().partition("\n")[0]

    @property
    def counts(self) -> bool:
        """False if the criterion was changed since."""
        return self.evidence.at >= self.evidence.criterion.changed_at


@dataclass(slots=True)
class Shown:
    """A criterion with the newest evidence on it, and the change that broke it if one did."""

    criterion: Criterion
    proofs: list[Proof] = field(default_factory=list)
    regression: Regression | None = None

    @property
    def look(self) -> str:
        """Met, not met, or not known."""
        return {True: "met", False: "unmet", None: "open"}[self.criterion.met]

    @property
    def newest(self) -> Proof | None:
        return next((p for p in self.proofs if p.counts), None)

    @property
    def regressed(self) -> str:
        """Which change did it, while the criterion is not met again."""
        if self.regression is None or self.criterion.met is not False:
            return ""
        return checks.told(self.regression)

    @property
    def way(self) -> str:
        """How it is found out whether it is met."""
        c = self.criterion
        if c.probe:
            return f"GET {c.probe['url']}"
        return c.check_command or c.tests

    def as_asked(self) -> dict[str, Any]:
        """Return it as a form sends it back."""
        c = self.criterion
        asked: dict[str, Any] = {"text": c.text}
        if c.check_command:
            asked["check"] = c.check_command
        if c.probe:
            asked["probe"] = c.probe
        if c.tests:
            asked["tests"] = c.tests
        if c.by_person:
            asked["by_person"] = True
        return asked


class Tab(NamedTuple):
    """A tab of the page: its words, its template, and what it reads."""

    words: Any
    template: str
    read: Callable[[HttpRequest, Goal], dict[str, Any]]


@require_GET
@for_people
@ensure_csrf_cookie
def goal(request: HttpRequest, goal: UUID) -> HttpResponse:
    """One goal: what is wanted, what shows that it is met, and all that was done for it."""
    found = lookup.goal(principal(request), goal)
    board = lookup.board(principal(request), found.board_id)
    cursor = log.last_seq(board.pk)
    name = request.GET.get("tab", "")
    name = name if name in TABS else "cards"
    criteria = shown_criteria(found)
    tops = progress.tree(board.pk)
    own = next((p for p in progress.flat(tops) if p.goal.pk == found.pk), None)
    listed = found.constraints if isinstance(found.constraints, list) else [found.constraints]
    how_far = own or progress.of([found])[found.pk]
    shown = {
        **frame(request, board),
        "goal": found,
        "cursor": cursor,
        "may_operate": may_operate(request, board),
        "constraints": listed,
        "criteria": criteria,
        "asked": [c.as_asked() for c in criteria],
        "progress": how_far,
        "below": [(p, p.depth - how_far.depth - 1) for p in how_far.everything_below()],
        "above": _above(own, tops),
        "cost": progress.costs([found])[found.pk],
        "budget": allowances.of_goal(found),
        "runs": list(found.check_runs.order_by("-pk")[:RUNS_SHOWN]),
        "checkable": any(c.criterion.checks_itself for c in criteria),
        "graph": graph.drawn(found.pk),
        "replan": wanting.of(found),
        "missing": missing.of([how_far]).get(found.pk),
        "tab": name,
        "tab_template": TABS[name].template,
        "tabs": [(key, tab.words) for key, tab in TABS.items()],
        "statuses": Goal.Status.choices,
        **TABS[name].read(request, found),
    }
    return render(request, "goals/goal.html", shown)


@require_GET
@for_people
def goals(request: HttpRequest, key: str) -> HttpResponse:
    """The goals of a board as a tree, with how far each is."""
    board = lookup.board(principal(request), key)
    cursor = log.last_seq(board.pk)
    rows = progress.flat(progress.tree(board.pk))
    costs = progress.costs([row.goal for row in rows])
    shown = {
        **frame(request, board),
        "cursor": cursor,
        "rows": [(row, costs[row.goal.pk]) for row in rows],
        "most": progress.GOALS_READ,
        "may_write": may_write(request, board),
    }
    return render(request, "goals/goals.html", shown)


@require_GET
@for_people
@ensure_csrf_cookie
def new_goal(request: HttpRequest, key: str) -> HttpResponse:
    """The form for a new goal; ``?part_of=ID`` chooses the one above it."""
    board = lookup.board(principal(request), key, Role.MEMBER)
    rows = progress.flat(progress.tree(board.pk))
    shown = {
        **frame(request, board),
        "above": [row for row in rows if row.goal.status == Goal.Status.ACTIVE],
        "part_of": request.GET.get("part_of", ""),
        "may_operate": may_operate(request, board),
    }
    return render(request, "goals/new_goal.html", shown)


@require_GET
@for_people
def evidence(request: HttpRequest, goal: UUID, evidence: int) -> HttpResponse:
    """One piece of evidence with the output that it rests on."""
    found = lookup.goal(principal(request), goal)
    rows = Evidence.objects.select_related("criterion", "check_run")
    row = rows.filter(criterion__goal=found, pk=evidence).first() if evidence < 2**63 else None
    if row is None:
        raise hidden("evidence")
    board = lookup.board(principal(request), found.board_id)
    [proof] = _proofs([row])
    output, cut = _output(row)
    shown = {
        **frame(request, board),
        "goal": found,
        "proof": proof,
        "e": row,
        "output": output,
        "cut": cut,
    }
    return render(request, "goals/evidence.html", shown)


@require_GET
@for_people
def merging(request: HttpRequest, discovery: UUID) -> HttpResponse:
    """The form that makes a discovery one with another: those that look alike come first."""
    found = Discovery.objects.filter(pk=discovery).first()
    if found is None:
        raise hidden("discovery")
    lookup.board(principal(request), found.board_id, Role.MEMBER)
    alike, rest = discoveries.mergeable(found)
    shown = {"d": found, "alike": alike, "rest": rest}
    return render(request, "checkpoints/_merging.html", shown)


def _output(row: Evidence) -> tuple[str, int]:
    """Return the beginning of the evidence's output, and how many bytes are left out.

    Only what a run of the checks has written is text for sure.
    """
    if not row.artifact or row.check_run_id is None:
        return "", 0
    path = artifacts.path_of(row.artifact)
    try:
        with path.open("rb") as file:
            data = file.read(OUTPUT_BYTES)
            return data.decode("utf-8", "replace"), max(0, path.stat().st_size - len(data))
    except FileNotFoundError:
        return "", 0


def shown_criteria(goal: Goal) -> list[Shown]:
    """Return the goal's criteria with their newest evidence and regression, in five statements."""
    newest = Evidence.objects.order_by("-id")[:EVIDENCE_SHOWN]
    last = Regression.objects.order_by("-pk")[:1]
    rows = standing(goal.pk).prefetch_related(
        Prefetch("evidence", queryset=newest, to_attr="newest_evidence"),
        Prefetch("regressions", queryset=last, to_attr="last_regression"),
    )
    kept: list[Any] = list(rows)
    found = [Shown(c, regression=next(iter(c.last_regression), None)) for c in kept]
    by_criterion = {c.criterion.pk: c for c in found}
    for proof in _proofs([e for c in kept for e in c.newest_evidence]):
        by_criterion[proof.evidence.criterion_id].proofs.append(proof)
    return found


def _proofs(rows: Sequence[Evidence]) -> list[Proof]:
    attempts = {
        a.pk: a
        for a in Attempt.objects.filter(pk__in={e.attempt_id for e in rows if e.attempt_id})
        .select_related("card")
        .only("number", "worker", "card__key", "card__title", "card__state")
    }
    cards = {
        c.pk: c
        for c in Card.objects.filter(
            pk__in={e.card_id for e in rows if e.card_id and e.attempt_id not in attempts}
        ).only("key", "title", "state")
    }
    found = []
    for row in rows:
        attempt = attempts.get(row.attempt_id) if row.attempt_id else None
        card = attempt.card if attempt else cards.get(row.card_id) if row.card_id else None
        found.append(Proof(row, attempt, card))
    return found


def _above(own: progress.Progress | None, tops: Sequence[progress.Progress]) -> list[Goal]:
    """Return the goals that this one is a part of, the outermost first."""
    if own is None:
        return []
    by_id = {p.goal.pk: p.goal for p in progress.flat(tops)}
    chain: list[Goal] = []
    at = own.goal
    while at.parent_id and at.parent_id in by_id and len(chain) < 20:
        at = by_id[at.parent_id]
        chain.insert(0, at)
    return chain


# ── tabs ─────────────────────────────────────────────────────────────────────────────────

#: In which order the states of cards are listed: what needs somebody first.
_ORDER = ("blocked", "review", "running", "waiting", "backlog", "completed", "cancelled")
_NEWEST = ("-started_at", "-pk")


def _cards(request: HttpRequest, goal: Goal) -> dict[str, Any]:
    of_state = Window(
        RowNumber(), partition_by="state", order_by=[F("priority"), F("number").desc()]
    )
    rows = Card.objects.filter(goal=goal, archived_at=None).annotate(nth=of_state)
    fields = ("key", "number", "title", "state", "priority", "fence", "goal_id", "updated_at")
    rows = rows.filter(nth__lte=CARDS_PER_STATE).only(*fields).order_by("nth")
    found: dict[str, list[Card]] = {}
    for card in rows:
        found.setdefault(card.state, []).append(card)
    return {"stacks": [(state, found[state]) for state in _ORDER if state in found]}


def _attempts(request: HttpRequest, goal: Goal) -> dict[str, Any]:
    every = Attempt.objects.filter(card__goal=goal).order_by(*_NEWEST)
    before = lookup.as_uuid(request.GET.get("before", ""))
    last = every.filter(pk=before).first() if before is not None else None
    rows = every
    if last is not None:  # several may have begun at one moment
        earlier = Q(started_at__lt=last.started_at) | Q(started_at=last.started_at, pk__lt=last.pk)
        rows = every.filter(earlier)
    # Sorted by themselves: all that is told of each would be read for every one.
    shown = list(rows.values_list("pk", flat=True)[: ROWS + 1])
    whole = Attempt.objects.filter(pk__in=shown).order_by(*_NEWEST).select_related("card")
    found = list(whole.defer("result", "outcome", "card__workflow", "card__inputs"))
    return {
        "strip": None if before else strip(goal),
        "tries": [
            (a, lineage.LOOKS[Attempt.Status(a.status)], lineage.ended(a, ENDED_LETTERS))
            for a in found[:ROWS]
        ],
        "older": found[ROWS - 1].pk if len(found) > ROWS else None,
    }


def _approaches(request: HttpRequest, goal: Goal) -> dict[str, Any]:
    rows = Attempt.objects.filter(card__goal=goal).exclude(approach="").order_by(*_NEWEST)
    rows = rows.select_related("card").defer("result", "card__workflow", "card__inputs")
    found = list(rows[: ROWS + 1])
    return {
        "approaches": [
            (a, lineage.LOOKS[Attempt.Status(a.status)], lineage.ended(a, ENDED_LETTERS))
            for a in found[:ROWS]
        ],
        "more": len(found) > ROWS,
    }


def _decisions(request: HttpRequest, goal: Goal) -> dict[str, Any]:
    rows = Decision.objects.filter(goal=goal).select_related("superseded_by")
    return {"decisions": _with_asked(request, rows.order_by("-at", "-pk"))}


def _discoveries(request: HttpRequest, goal: Goal) -> dict[str, Any]:
    rows = Discovery.objects.filter(goal=goal).order_by("status", "-at", "-pk")
    return {"discoveries": _with_asked(request, rows)}


def _with_asked(request: HttpRequest, rows: QuerySet[Any]) -> list[Any]:
    """Return the first ROWS, and behind them the one that the address asks for by ``at``."""
    shown = list(rows[:ROWS])
    at = lookup.as_uuid(request.GET.get("at", ""))
    if at is not None and all(row.pk != at for row in shown):
        shown += rows.filter(pk=at)
    return shown


def _activity(request: HttpRequest, goal: Goal) -> dict[str, Any]:
    board = Board.objects.get(pk=goal.board_id)
    wanted = activity.Wanted(goal=goal.pk)
    before = whole_number(request.GET.get("before", ""), 18) or log.last_seq(board.pk) + 1
    zone = zone_of(request.COOKIES.get("tz", ""))
    return {"page": activity.page_of(board, wanted, None, before, zone)}


#: By the name in the address; the first is what is shown unasked.
TABS: dict[str, Tab] = {
    "cards": Tab(gettext_lazy("Cards"), "goals/_cards.html", _cards),
    "attempts": Tab(gettext_lazy("Attempts"), "goals/_attempts.html", _attempts),
    "approaches": Tab(gettext_lazy("Approaches"), "goals/_approaches.html", _approaches),
    "decisions": Tab(gettext_lazy("Decisions"), "checkpoints/_decisions.html", _decisions),
    "discoveries": Tab(gettext_lazy("Discoveries"), "checkpoints/_discoveries.html", _discoveries),
    "activity": Tab(gettext_lazy("Activity"), "goals/_activity.html", _activity),
}


# ── attempts over time ───────────────────────────────────────────────────────────────────

WIDTH, TALL, BUCKETS, ATTEMPTS_READ = 840, 48, 60, 10_000


@dataclass(slots=True)
class Bar:
    """The attempts begun in one stretch of time, by how they ended."""

    x: float
    wide: float
    parts: list[dict[str, Any]]
    says: str


@dataclass(slots=True)
class Strip:
    """The newest attempts of a goal over time."""

    bars: list[Bar]
    total: int
    began: Any
    ended: Any


def strip(goal: Goal) -> Strip | None:
    """Return the goal's newest attempts in at most BUCKETS stretches of equal length."""
    newest = Attempt.objects.filter(card__goal=goal).order_by("-started_at")
    rows = list(newest.values_list("started_at", "status")[:ATTEMPTS_READ])
    if not rows:
        return None
    began, ended = rows[-1][0], rows[0][0]
    length = max(60.0, (ended - began).total_seconds() + 1)
    counts: list[dict[str, int]] = [{} for _n in range(BUCKETS)]
    for at, status in rows:
        own = counts[int((at - began).total_seconds() / length * BUCKETS)]
        own[status] = own.get(status, 0) + 1
    most = max(sum(own.values()) for own in counts)
    wide = WIDTH / BUCKETS
    bars = []
    for n, own in enumerate(counts):
        if not own:
            continue
        y, parts = float(TALL), []
        for status in Attempt.Status:
            if tall := TALL * own.get(status, 0) / most:
                y -= tall
                parts.append({"y": y, "tall": tall, "look": lineage.LOOKS[status]})
        ends = ", ".join(f"{own[s]} {s.label}" for s in Attempt.Status if s in own)
        bars.append(Bar(n * wide, wide - 1.5, parts, ends))
    return Strip(bars, len(rows), began, ended)
