"""Runs of the checks of a goal's criteria: on demand, when a card is completed, on a schedule.

    queued ── begin ──> running ──┬─ finish ──> done
       ^                   │      └─ give_up ─> failed
       └── release, lapse ─┘

The row is the truth and carries a lease; the queue carries only a nudge. A goal has one run at a
time: who asks for another while it goes on has it follow. Each take counts up ``taken``, which
fences every write of whoever had the run before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone
from django_q.tasks import async_task

from goals import criteria
from goals.criteria import locked, note, settle_later, standing
from goals.models import CheckRun, Criterion, Evidence, Goal, Regression
from kernel.errors import LeaseLost, TransitionRefused
from kernel.sql import insert_or_skip
from kernel.tx import transition

#: What a nudge calls, by name: workers are above this app and are not imported from here.
WORK = "workers.tasks.check_goal"
LEASE_SECONDS = 30
#: A run that so many workers did not survive is given up.
LAPSES_AT_MOST = 5
#: Runs kept of a goal, besides those that evidence names.
KEPT = 50
ACTOR = "system:checks"
Status, Why = CheckRun.Status, CheckRun.Why
_LIVE = (Status.QUEUED, Status.RUNNING)
CHECKS_ITSELF = ~Q(check_command="") | Q(probe__isnull=False) | ~Q(tests="")


def request(goal: Goal, actor: str, why: str = Why.ASKED, *, card_id: UUID | None = None) -> Any:
    """Return the run that will tell of the goal as it is now: a new one, or the one waiting.

    Raises TransitionRefused where no criterion of the goal checks itself.
    """
    with transition():
        if not standing(goal.pk).filter(CHECKS_ITSELF).exists():
            raise TransitionRefused(
                "No criterion of this goal has a command, an address or tests to check it by."
            )
        run = CheckRun(goal=goal, why=why, actor=actor, card_id=card_id)
        if insert_or_skip(run):
            nudge(run)
            return run
        live = CheckRun.objects.filter(goal=goal, status__in=_LIVE)
        live.filter(status=Status.RUNNING).update(again=True)
        # It may have ended this very moment: then it told of the goal as it was just now.
        return live.first() or goal.check_runs.order_by("-pk").first()


def card_completed(goal_id: UUID, card_id: UUID) -> None:
    """Have an active or achieved goal checked whose card has just been completed."""
    goal = Goal.objects.filter(pk=goal_id).exclude(status=Goal.Status.ABANDONED).first()
    if goal is not None and standing(goal_id).filter(CHECKS_ITSELF).exists():
        request(goal, ACTOR, Why.COMPLETED, card_id=card_id)


def nudge(run: CheckRun) -> None:
    """Ask a built-in worker to look at the run, when this transaction commits."""
    if settings.DISPATCH:
        async_task(WORK, str(run.pk))


def schedule() -> int:
    """Request the runs that are due, and return how many. Safe to run anywhere, twice."""
    now = timezone.now()
    made = 0
    due = Goal.objects.filter(check_due_at__lte=now)
    for goal in due.order_by("check_due_at")[:50]:
        following = _next(goal, now)
        mine = Goal.objects.filter(pk=goal.pk, check_due_at=goal.check_due_at)
        with transition():
            if not mine.update(check_due_at=following) or following is None:
                continue
            if standing(goal.pk).filter(CHECKS_ITSELF).exists():
                request(goal, ACTOR, Why.SCHEDULED)
                made += 1
    return made


def _next(goal: Goal, now: Any) -> Any:
    if goal.check_every_seconds is None or goal.status == Goal.Status.ABANDONED:
        return None
    return now + timedelta(seconds=goal.check_every_seconds)


def waiting(unnoticed_seconds: float) -> list[CheckRun]:
    """Return the runs that a nudge was lost of, or whose worker was."""
    now = timezone.now()
    since = now - timedelta(seconds=unnoticed_seconds)
    lost = Q(status=Status.QUEUED, created_at__lt=since) | Q(
        status=Status.RUNNING, lease_expires_at__lt=now
    )
    return list(CheckRun.objects.filter(lost).order_by("created_at")[:20])


# ── while it runs ────────────────────────────────────────────────────────────────────────


def begin(run_id: UUID, worker: str) -> CheckRun | None:
    """Return the run, now this worker's, or None where it is somebody else's or over."""
    now = timezone.now()
    mine = {
        "status": Status.RUNNING,
        "worker": worker,
        "taken": F("taken") + 1,
        "lease_expires_at": now + timedelta(seconds=LEASE_SECONDS),
    }
    with transition():
        one = CheckRun.objects.filter(pk=run_id)
        lapsed = one.filter(status=Status.RUNNING, lease_expires_at__lt=now)
        if not (
            one.filter(status=Status.QUEUED).update(**mine)
            or lapsed.update(**mine, lapses=F("lapses") + 1)
        ):
            return None
        run = one.select_related("goal").get()
    if run.lapses >= LAPSES_AT_MOST:
        give_up(run, f"{run.lapses} workers stopped answering while they ran these checks.")
        return None
    return run


def renew(run: CheckRun) -> None:
    """Keep the run for another LEASE_SECONDS. Raises LeaseLost if somebody else has it."""
    _guarded(run, lease_expires_at=timezone.now() + timedelta(seconds=LEASE_SECONDS))


def release(run: CheckRun) -> None:
    """Give the run back to be gone on with; what it has shown stays."""
    with transition():
        _guarded(run, status=Status.QUEUED, lease_expires_at=None)
        nudge(run)


def finish(run: CheckRun, said: str, *, commit: str = "") -> None:
    """End the run; ``said`` is what came of it, in a sentence."""
    _end(run, Status.DONE, said=said[:300], commit=commit)


def give_up(run: CheckRun, error: str) -> None:
    """End a run that could not be carried out; the criteria are as they were."""
    _end(run, Status.FAILED, error=error[:2000])


def _end(run: CheckRun, status: str, **told: Any) -> None:
    with transition():
        goal = locked(run.goal_id)
        _guarded(run, status=status, lease_expires_at=None, ended_at=timezone.now(), **told)
        run.refresh_from_db()
        if run.again:
            again = CheckRun(goal=goal, why=Why.ASKED, actor=run.actor)
            if insert_or_skip(again):
                nudge(again)
        if status == Status.FAILED or run.why != Why.SCHEDULED:
            note(
                goal,
                "goal.checked",
                run.actor,
                run=str(run.pk),
                outcome=status,
                said=run.said or run.error[:300],
                commit=run.commit[:12],
            )
        settle_later(goal.pk)
        _forget_old(goal)


def _forget_old(goal: Goal) -> None:
    newest = goal.check_runs.order_by("-pk").values("pk")[:KEPT]
    old = goal.check_runs.exclude(pk__in=list(newest.values_list("pk", flat=True)))
    old.filter(evidence=None, regressions=None).delete()


def _guarded(run: CheckRun, **fields: Any) -> None:
    mine = CheckRun.objects.filter(pk=run.pk, status=Status.RUNNING, taken=run.taken)
    if not mine.update(**fields):
        raise LeaseLost("These checks were taken over by another worker.")


def to_run(run: CheckRun) -> list[Criterion]:
    """Return the criteria that the run has yet to check."""
    asked = standing(run.goal_id).filter(CHECKS_ITSELF)
    return list(asked.exclude(evidence__check_run=run))


def show(
    run: CheckRun,
    criterion: Criterion,
    *,
    met: bool,
    detail: str,
    artifact: str = "",
    commit: str = "",
) -> Regression | None:
    """Keep what the run showed of the criterion as it was read; return the regression, if it
    was met before and is no longer. The goal is then active again.

    Nothing is kept of a criterion that was changed meanwhile. Raises LeaseLost.
    """
    with transition():
        goal = locked(run.goal_id)
        renew(run)
        now = standing(goal.pk).filter(pk=criterion.pk, changed_at=criterion.changed_at).first()
        if now is None or _confirms(run, now, met, commit):
            return None
        made = Evidence(
            criterion=now,
            met=met,
            detail=detail,
            artifact=artifact,
            commit=commit,
            check_run=run,
            card_id=run.card_id,
            actor=ACTOR,
        )
        if not insert_or_skip(made):
            return None
        Criterion.objects.filter(pk=now.pk).update(met=met)
        if now.met is not met:
            note(goal, "criterion.met" if met else "criterion.unmet", ACTOR, now)
        achieved = goal.status == Goal.Status.ACHIEVED
        if met or now.met is not True or not (achieved or _was_green(now, made)):
            return None
        good = _last_green(now)
        found = Regression.objects.create(criterion=now, check_run=run, good=good, bad=commit)
        criteria.reopen(goal, ACTOR, f"Criterion {now.number} is met no more: {now.text}")
    return found


def _confirms(run: CheckRun, criterion: Criterion, met: bool, commit: str) -> bool:
    """Note that a scheduled run showed the same again, if that is so: a check each minute for
    a year is no half a million rows."""
    if run.why != Why.SCHEDULED or criterion.met is not met:
        return False
    newest = criterion.evidence.order_by("-pk").first()
    if newest is None or newest.check_run_id is None:
        return False
    if newest.met is not met or newest.commit != commit:
        return False
    Evidence.objects.filter(pk=newest.pk).update(confirmed_at=timezone.now())
    return True


def _was_green(criterion: Criterion, now: Evidence) -> bool:
    """Return whether the run before showed it met: what a card shows in its own files is not yet
    in the main branch, and no regression there."""
    runs = criterion.evidence.filter(check_run__isnull=False, at__gte=criterion.changed_at)
    before = runs.exclude(pk=now.pk).order_by("-pk").values_list("met", flat=True).first()
    return bool(before)


def _last_green(criterion: Criterion) -> str:
    """Return the newest commit on which a run showed the criterion met, empty if there is none."""
    green = criterion.evidence.filter(
        met=True, check_run__isnull=False, at__gte=criterion.changed_at
    )
    return green.exclude(commit="").order_by("-pk").values_list("commit", flat=True).first() or ""


# ── which change did it ──────────────────────────────────────────────────────────────────


def searching(run: CheckRun) -> list[Regression]:
    """Return the goal's regressions whose change is yet to be found."""
    rows = Regression.objects.filter(
        criterion__goal=run.goal_id, status=Regression.Status.SEARCHING
    )
    return list(rows.select_related("criterion").order_by("pk"))


def suspect(found: Regression, suspects: Sequence[Mapping[str, Any]], left_out: int) -> None:
    """Say which commits may have done it, oldest first; the last is the one that is bad."""
    with transition():
        found.suspects, found.left_out = list(suspects), left_out
        found.low, found.high = 0, max(0, len(suspects) - 1)
        found.save(update_fields=["suspects", "left_out", "low", "high"])


def tried(run: CheckRun, found: Regression, at: int, trial: Mapping[str, Any]) -> None:
    """Narrow the search by what the check said on the suspect ``at``."""
    with transition():
        renew(run)
        found.trials = [*found.trials, dict(trial)]
        if trial["met"]:
            found.low = at + 1
        else:
            found.high = at
        found.save(update_fields=["trials", "low", "high"])


def conclude(run: CheckRun, found: Regression, *, is_found: bool) -> None:
    """End the search, and say which card's change did it or who may have."""
    status = Regression.Status.FOUND if is_found else Regression.Status.LISTED
    with transition():
        goal = locked(run.goal_id)
        renew(run)
        found.status, found.ended_at = status, timezone.now()
        found.save(update_fields=["status", "ended_at"])
        by = found.culprit or {}
        note(
            goal,
            "criterion.regressed",
            ACTOR,
            found.criterion,
            regression=str(found.pk),
            card=by.get("card") or "",
            commit=str(by.get("commit") or "")[:12],
            said=told(found),
        )


def told(found: Regression) -> str:
    """Return in a sentence which change did it."""
    if found.status == Regression.Status.SEARCHING:
        return "Which change did it is being looked for."
    if by := found.culprit:
        what = by.get("card") or by.get("subject") or "a change"
        return f"{what} did it, commit {str(by['commit'])[:12]}."
    if not found.good:
        return "On which commit it was last met is not known, so neither is what changed."
    if not found.suspects:
        return "Nothing was merged since it was last met: something outside of the repository did."
    names = [str(s.get("card") or s["commit"][:12]) for s in found.suspects[-5:]]
    more = len(found.suspects) - len(names) + found.left_out
    return f"One of {', '.join(names)}{f' and {more} more' if more else ''} did it."
