"""A small world for API tests: a board with cards in every state, another one out of sight."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.client import ClientHandler
from django.utils import timezone

from boards import cards, leases, tokens, workflow_templates
from boards.models import (
    Attempt,
    Board,
    Card,
    Column,
    Membership,
    Message,
    Race,
    Racer,
    SavedView,
    Split,
)
from boards.notices.models import Notice
from boards.planning import applying
from boards.secrets import keeping
from checkpoints import (
    artifacts,
    briefing,
    bundles,
    logs,
    recovery,
    reviews,
    salvaging,
    steps,
    transport,
)
from checkpoints.models import ArtifactLink, Checkpoint
from checkpoints.snapshots import SnapshotStore
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
from events import webhooks
from events.models import Delivery, Webhook
from goals import checks, memory
from goals.models import Decision, Discovery, Goal
from kernel.access import SYSTEM, Role
from tests.api.contract import Operation, faults, operations
from tests.repositories import git
from workers import registry

PREFIX = "/api/v1"
PROBLEM = "application/problem+json"


class Caller:
    """Somebody with a token (or a session, or nothing) who calls the API.

    Every answer is checked for what holds everywhere: a refusal is a problem document, a
    success has the shape that the OpenAPI document gives it, nothing is a server's fault.
    """

    def __init__(
        self, token: str | None = None, *, user: Any = None, lenient: bool = False
    ) -> None:
        self.token = token
        self.lenient = lenient
        self.client = Client()
        self.client.handler = _handler(enforce_csrf_checks=user is None)
        if user is not None:
            self.client.force_login(user)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        lease: str | None = None,
        key: str | None = None,
        content_type: str = "application/json",
        **headers: str,
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if lease is not None:
            sent["Lease-Token"] = lease
        if key is not None:
            sent["Idempotency-Key"] = key
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        response = self.client.generic(
            method.upper(),
            PREFIX + path,
            data=raw or b"",
            content_type=content_type if raw is not None else "",
            headers=sent,
        )
        answer = Answer(response)
        if not self.lenient:
            check(method, path, answer)
        return answer

    def get(self, path: str, **options: Any) -> Answer:
        return self("get", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return self("post", path, {} if body is None else body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> Answer:
        return self("patch", path, {} if body is None else body, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        return self("delete", path, **options)


@cache
def _handler(*, enforce_csrf_checks: bool) -> ClientHandler:
    """Return one handler for all callers: loading the middleware takes longer than a call."""
    return ClientHandler(enforce_csrf_checks)


def asking(path: str, query: str) -> str:
    """Return the path with more of a query."""
    return f"{path}{'&' if '?' in path else '?'}{query}"


class Answer:
    """A response, its JSON at hand by item."""

    def __init__(self, response: HttpResponse) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.type = response.headers.get("Content-Type", "").split(";")[0]
        self.raw: bytes = (
            b"".join(response.streaming_content) if response.streaming else response.content
        )
        is_json = self.type.endswith("json") and self.raw
        self.json: Any = json.loads(self.raw) if is_json else None

    def __getitem__(self, name: str) -> Any:
        return self.json[name]

    def __repr__(self) -> str:
        return f"<{self.status} {self.raw[:400]!r}>"

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.json["code"]


def check(method: str, path: str, answer: Answer) -> None:
    """Pass only an answer of a shape that the contract knows."""
    assert answer.status < 500, answer
    if answer.status >= 400:
        check_problem(answer)
        return
    known = described(method, path)
    if known is None or answer.status == 304:
        return
    assert str(answer.status) in known.answers, f"{known} does not announce {answer.status}"
    schema = known.answers[str(answer.status)]
    if schema is not None:
        assert not faults(schema, answer.json), f"{known}: {faults(schema, answer.json)}"


def check_problem(answer: Answer) -> None:
    """Pass only a problem document (RFC 9457) with the contract's members."""
    assert answer.type == PROBLEM, answer
    problem = answer.json
    assert {"type", "title", "status", "detail", "code"} <= set(problem), problem
    assert problem["status"] == answer.status
    assert all(problem[name] for name in ("title", "detail")), problem
    assert re.fullmatch(r"[a-z][a-z_]+", problem["code"]), problem
    assert bool(problem.get("errors")) or answer.status not in (400, 422), problem
    assert not re.search(r"traceback|<html", answer.raw.decode(), re.IGNORECASE)
    for name, sentences in problem.get("errors", {}).items():
        assert sentences, name
        assert all(isinstance(s, str) for s in sentences), name


def described(method: str, path: str) -> Operation | None:
    """Return the operation of the document that a request meets."""
    bare = path.partition("?")[0]
    matching = [
        o
        for o in operations()
        if o.method == method and re.fullmatch(_pattern(o.path), PREFIX + bare)
    ]
    # The literal path wins over one with more blanks to fill.
    return min(matching, key=lambda o: o.path.count("{")) if matching else None


def _pattern(path: str) -> str:
    return re.sub(r"\\\{key\\\}", "[^?]+", re.sub(r"\\\{(?!key)\w+\\\}", "[^/]+", re.escape(path)))


@dataclass
class Side:
    """What one board holds."""

    board: Board
    goal: Goal
    columns: dict[str, Column]
    cards: dict[str, Card]
    attempt: Attempt
    lease: str
    decision: Decision
    discovery: Discovery
    question: Message
    remark: Message
    artifact: str
    token_id: UUID
    extra: dict[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> Card:
        """Return the named card as it is now."""
        return Card.objects.get(pk=self.cards[name].pk)

    def fill(self, operation: Operation) -> str:
        """Return the operation's path with things of this board in its blanks."""
        wanted = {
            "approve": "review",
            "reject": "review",
            "retry": "blocked",
            "messages": "blocked",
            "{message}": "blocked",
            "cancel": "waiting",
            "archive": "completed",
            "adopt": "running",
            "{number}": "running",
            "rewind": "running",
            "fork": "running",
            "race": "racer",
            "split": "running" if operation.writes else "parted",
            "choose": "racer",
            "merge": "review",
            "remarks": "review",
            "patch": "review",
            "file": "review",
        }
        verb = operation.path.rpartition("/")[2]
        usual = "backlog" if operation.writes else "running"
        on_remark = "/remarks/" in operation.path
        card = self.cards["review" if on_remark else wanted.get(verb, usual)]
        blanks = {
            "board": self.board.key,
            "card": card.key,
            "goal": str(self.goal.pk),
            "attempt": str(self.attempt.pk),
            "key": quote("build/wheel", safe=""),
            "number": "1",
            "sha256": self.artifact,
            "discovery": str(self.discovery.pk),
            "decision": str(self.decision.pk),
            "message": str(self.remark.pk if on_remark else self.question.pk),
            "token": str(self.token_id),
            "worker": self.attempt.worker,
            "member": str(self._member()),
            "secret": "DEPLOY_KEY",
            "salvage": str(self.extra["salvage"]),
            **self.extra["sent"],
        }
        path = re.sub(r"\{(\w+)\}", lambda m: blanks[m.group(1)], operation.path)
        query = f"?board={self.board.key}" if operation.id == "list_events" else ""
        query = "?q=building" if operation.id == "search_log" else query
        query = "?path=app.py" if operation.id == "get_checkpoint_file" else query
        query = "?q=card" if operation.id == "search" else query
        return path.removeprefix(PREFIX) + query

    def _member(self) -> int:
        people = Membership.objects.filter(board=self.board, user__isnull=False)
        return people.order_by("pk").values_list("pk", flat=True).first() or 999999

    def missing(self, operation: Operation) -> str:
        """Return the operation's path with things in its blanks that never were."""
        blanks = {
            "board": "NOWHERE",
            "card": "NOWHERE-7",
            "key": quote("build/wheel", safe=""),
            "number": "1",
            "message": "999999",
            "member": "999999",
            "salvage": "999999",
            "sha256": hashlib.sha256(b"nothing").hexdigest(),
            "worker": "nobody",
        }
        path = re.sub(r"\{(\w+)\}", lambda m: blanks.get(m.group(1), str(uuid4())), operation.path)
        query = "?board=NOWHERE" if operation.id == "list_events" else ""
        query = "?q=building" if operation.id == "search_log" else query
        query = "?path=app.py" if operation.id == "get_checkpoint_file" else query
        query = "?q=card" if operation.id == "search" else query
        return path.removeprefix(PREFIX) + query


def give_files(card: Card) -> None:
    """Give the card's board a repository, and the card a checkpoint with changed files."""
    root = Path(tempfile.mkdtemp(dir=settings.DATA_DIR))
    git(root, "init", "-q", "repository")
    git(root / "repository", "commit", "-q", "--allow-empty", "-m", "Begin")
    Board.objects.filter(pk=card.board_id).update(repository=str(root / "repository"))
    files = Workspace.prepare(
        root / "workspaces",
        store_of(card.board_id),
        card_key=card.key,
        attempt_number=1,
        repository=str(root / "repository"),
    )
    (files.tree / "app.py").write_text("print(1)\n")
    workspace = files.snapshot("all of it").as_json()
    files.close()
    Checkpoint.objects.create(
        card=card,
        number=1,
        attempt=card.attempts.get(),
        summary="all of it",
        workspace=workspace,
        digest="0" * 64,
    )


@cache
def snapshot_bundle() -> bytes:
    """Return a git bundle of a workspace with one file."""
    root = Path(tempfile.mkdtemp(dir=settings.DATA_DIR))
    store = SnapshotStore(root / "elsewhere.git")
    files = Workspace.prepare(root / "workspaces", store, card_key="X-1", attempt_number=1)
    (files.tree / "afar.txt").write_text("done\n")
    commit = files.snapshot("all of it").commit
    files.close()
    transport.write(store, commit, [], root / "bundle")
    return (root / "bundle").read_bytes()


@cache
def empty_bundle() -> bytes:
    """Return a bundle of no cards: what one of some holds is tested where it is made."""
    folder = Path(tempfile.mkdtemp(dir=settings.DATA_DIR))
    names = ("cards", "criteria", "evidence", "decisions", "discoveries", "dependencies")
    rows = ("attempt", "checkpoint", "line", "step", "message", "salvage", "snapshots")
    data = {"goal": None, **{name: [] for name in (*names, *rows)}}
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "snapshots.pack").touch()
    with bundles._written({p.name: p for p in sorted(folder.iterdir())}) as file:
        return file.read()


def make_side(key: str, worker: str) -> Side:
    """Return a new board with a goal, a card in every state and a live attempt."""
    board = cards.create_board(SYSTEM, key=key, name=f"Board {key}")
    keeping.put(board.pk, "user:ann", "DEPLOY_KEY", f"the key of {key}")
    columns = {c.kind: c for c in board.columns.all()}
    goal = memory.create(
        board.pk,
        "user:ann",
        title="Ship it",
        criteria=[{"text": "tests pass", "check": "make test"}],
    )
    memory.edit(goal.pk, "user:ann", {"intent": "Soon."}, reason="they wait")
    for _ in range(3):
        run = checks.request(goal, "user:ann")
        checks.give_up(checks.begin(run.pk, worker) or run, "there is no repository")
    made = {
        name: cards.create(
            board, "user:ann", title=f"A {name} card", column=columns[kind], goal=goal
        )
        for name, kind in {
            "backlog": "backlog",
            "running": "in_progress",
            "blocked": "in_progress",
            "review": "in_progress",
            "waiting": "in_progress",
            "completed": "in_progress",
            "racer": "in_progress",
            "parted": "in_progress",
        }.items()
    }
    token = tokens.issue(f"{key} worker", roles={board.pk: Role.MEMBER})
    on = {"boards": frozenset([board.pk]), "token_id": token.token.pk}
    Split.objects.create(card=made["parted"], checkpoint=1, actor="user:ann")
    Card.objects.filter(pk=made["parted"].pk).update(paused=True)  # as if it waited for parts
    race = Race.objects.create(board=board, choose=Race.Choose.PERSON)
    Card.objects.filter(pk=made["racer"].pk).update(race=race)
    Racer.objects.create(card=made["racer"], number=1, approach="by hand")
    for name in ("blocked", "review", "completed", "racer"):
        Card.objects.filter(pk=made[name].pk).update(review_required=name == "review")
        other = leases.claim(worker, card_id=made[name].pk, **on)
        assert other is not None
        if name == "blocked":
            leases.block(other.pk, "need a decision", question="Which one?", options=["a", "b"])
        else:
            leases.complete(other.pk, "done")
    give_files(made["review"])
    attempt = leases.claim(worker, card_id=made["running"].pk, **on)
    assert attempt is not None
    briefing.store(attempt.pk, briefing.build(made["running"]))
    stored, _ = artifacts.store([key.encode() * 40], principal=f"token:{token.token.pk}")
    steps.record(
        attempt.pk,
        "test",
        "succeeded",
        result={"passed": 3},
        checkpoint={
            "summary": "tests pass",
            "artifacts": [{"name": "log.txt", "sha256": stored.pk}],
        },
    )
    steps.begin(attempt.pk, "build/wheel", title="Build the wheel")
    logs.append(attempt.pk, [("build/wheel", "stdout", "building\ndone\n")])
    recovery.save(attempt.pk, {"summary": "half way", "key": "half"})
    (decision,) = recovery.record_memory(attempt.pk, decisions=[{"title": "use a queue"}])
    (discovery, twin) = recovery.record_memory(
        attempt.pk,
        discoveries=[
            {"kind": "dead_end", "title": "it is slow"},
            {"kind": "fact", "title": "slow it is"},
        ],
    )
    bundle, _ = artifacts.store([empty_bundle()], principal="system")
    ArtifactLink.objects.create(artifact=bundle, board=board, name="a bundle")
    snapshot, _ = artifacts.store([snapshot_bundle()], principal="system")
    ArtifactLink.objects.create(artifact=snapshot, board=board, name="a snapshot")
    left = salvaging.salvage(
        attempt.pk, {"summary": "a log", "artifacts": [{"name": "l.txt", "sha256": stored.pk}]}
    )
    registry.seen(worker, token_id=token.token.pk, capabilities=["python"])
    return Side(
        board=board,
        goal=goal,
        columns=columns,
        cards=made,
        attempt=attempt,
        lease=leases.token_of(attempt.pk, board.pk),
        decision=decision,
        discovery=discovery,
        question=Message.objects.get(card=made["blocked"], kind="question"),
        remark=reviews.remark(
            made["review"].pk,
            "user:ann",
            "say it",
            checkpoint=1,
            path="app.py",
            side="new",
            line=1,
        ),
        artifact=stored.pk,
        token_id=token.token.pk,
        extra={
            "token": token.plaintext,
            "worker": worker,
            "salvage": left.pk,
            "bundle": bundle.pk,
            "twin": str(twin.pk),
            "snapshot": snapshot.pk,
        },
    )


def give_notice(side: Side, user: Any) -> None:
    """Tell the person of the side's question, and give the side a webhook that was tried once."""
    card = side.cards["blocked"]
    notice = Notice.objects.create(
        user=user,
        board=side.board,
        card=card,
        kind="question",
        cause="1",
        message=side.question,
        text=side.question.text,
    )
    hook = webhooks.create(side.board.pk, "user:ann", url="https://hooks.example.org/in")
    delivery = webhooks.queue(hook, "test_1", "webhook.tested", {})
    Delivery.objects.filter(pk=delivery.pk).update(state="failed", finished_at=timezone.now())
    Webhook.objects.filter(pk=hook.pk).update(active=False)
    Card.objects.filter(pk=side.cards["waiting"].pk).update(planned_as="before")
    side.extra["sent"] = {
        "notice": str(notice.pk),
        "webhook": str(hook.pk),
        "delivery": str(delivery.pk),
        "template": str(
            workflow_templates.make(
                side.board,
                "user:ann",
                name="Nightly",
                source="inputs: {path: {required: true}}\nsteps: [{key: a, run: 'true'}]\n",
            ).pk
        ),
        "plan": str(applying.create(side.goal, "user:ann", [{"ref": "one", "title": "One"}]).pk),
        "view": str(
            SavedView.objects.create(board=side.board, owner=user, name="Mine", shared=True).pk
        ),
    }


#: Operations that no token may do.
FOR_PEOPLE = frozenset(
    {
        "approve_card",
        "choose_card",
        "create_view",
        "delete_view",
        "edit_notice",
        "edit_notification_rules",
        "edit_view",
        "merge_card",
        "reject_card",
        "say_criterion",
        "set_personal_webhook",
        "watch_card",
    }
)

#: Operations that need an operator of the board.
FOR_OPERATORS = frozenset(
    {
        "create_goal",  # one with an address to be called
        "edit_goal",
        "create_board",
        "create_template",
        "create_token",
        "create_webhook",
        "delete_card",
        "delete_template",
        "delete_webhook",
        "drain_worker",
        "bring_bundle",
        "edit_board",
        "edit_storage",
        "edit_template",
        "edit_webhook",
        "redeliver",
        "remove_member",
        "remove_secret",
        "revoke_token",
        "set_member",
        "set_secret",
        "test_webhook",
        "undrain_worker",
    }
)


class World:
    """Two boards and everybody who may call: the first board is seen, the second is hidden."""

    def __init__(self) -> None:
        self.here = make_side("HERE", "ada")
        self.there = make_side("THERE", "eve")
        board = self.here.board.pk
        later = timezone.now() + timedelta(days=1)
        self.member = Caller(self.here.extra["token"])
        self.stranger = Caller(self.there.extra["token"])
        self.viewer = Caller(tokens.issue("viewer", roles={board: Role.VIEWER}).plaintext)
        self.operator = Caller(
            tokens.issue("operator", roles={board: Role.OPERATOR}, expires_at=later).plaintext
        )
        self.root = Caller(tokens.issue("root", everywhere=Role.OPERATOR).plaintext)
        ann = get_user_model().objects.create_user("ann")
        zoe = get_user_model().objects.create_user("zoe")  # or nobody could take ann's role away
        for user in (ann, zoe):
            Membership.objects.create(board=self.here.board, user=user, role=Role.OPERATOR)
        self.person = Caller(user=ann)
        give_notice(self.here, ann)
        give_notice(self.there, get_user_model().objects.create_user("eve"))
        for caller in (self.member, self.stranger, self.viewer, self.operator, self.root):
            caller.get("/me")  # from now on reading writes nothing, see tokens.principal_of

    def example(self, name: str) -> Any:
        """Return a full, valid body for the operation; None where it takes none."""
        return example(self.here, name)

    def call(self, caller: Caller, operation: Operation, body: Any = ..., **options: Any) -> Answer:
        """Make the operation's call on the first board as ``caller``."""
        if body is ...:
            body = self.example(operation.id) if operation.writes else None
        if operation.under_a_lease:
            options.setdefault("lease", self.here.lease)
        return caller(operation.method, self.here.fill(operation), body, **options)


def example(side: Side, name: str) -> Any:
    """Return a body that fills every field of the operation's contract."""
    decision = {
        "title": "use a queue",
        "context": "two processes",
        "rationale": "it is there",
        "alternatives": [{"title": "a bus"}],
        "consequences": "one more table",
        "files": ["boards/leases.py"],
        "supersedes": str(side.decision.pk),
        "differs": "it is about another table",
    }
    discovery = {
        "kind": "fact",
        "title": "it runs on 3.12",
        "detail": "very",
        "severity": "low",
        "rests_on": {"requirement": "no new services", "environment": {"python": "3.11"}},
        "environment": {"python": "3.12"},
    }
    files = [{"name": "log.txt", "sha256": side.artifact}]
    workspace = {
        "commit": "a" * 40,
        "tree": "b" * 40,
        "base": "c" * 40,
        "changed_files": 2,
        "additions": 10,
        "deletions": 3,
        "skipped": ["big.bin"],
        "files": ["app.py"],
        "environment": {"python": "3.12.1"},
    }
    checkpoint = {
        "key": "green",
        "summary": "tests pass",
        "next_step": "build",
        "state": {"at": [1, 2, {"x": None}]},
        "tests": {
            "passed": 3,
            "failed": 1,
            "skipped": 0,
            "failing": ["test_a"],
            "passing": ["test_b"],
        },
        "workspace": workspace,
        "artifacts": files,
        "decisions": [decision],
        "discoveries": [discovery],
    }
    finish = {
        "status": "succeeded",
        "result": {"passed": 3},
        "error": "",
        "usage": {"input_tokens": 5, "output_tokens": 6, "cost_usd": "0.25", "model": "m-1"},
        "checkpoint": checkpoint,
    }
    goal = {
        "title": "Ship it",
        "intent": "people can use it",
        "constraints": ["no downtime"],
        "criteria": [
            {
                "text": "it answers",
                "check": "",
                "tests": "",
                "by_person": False,
                "probe": {
                    "url": "https://example.org/healthz",
                    "status": 200,
                    "text": "ok",
                    "timeout_seconds": 5,
                },
            },
            {"text": "tests pass", "check": "make test"},
            {"text": "the parser is right", "tests": "tests/test_parser.py"},
        ],
        "evidence_required": True,
        "achieves_itself": True,
        "check_every_seconds": 3600,
        "status": "active",
        "parent": None,
        "budgets": {"cost_usd": "10"},
        "share": 2,
        "max_running": 100,
        "plans_first": True,
    }
    card = {
        "goal": str(side.goal.pk),
        "title": "Write the parser",
        "description": "all of it",
        "column": side.columns["backlog"].name,
        "priority": 1,
        "labels": ["api"],
        "requires": ["python"],
        "depends_on": [side.cards["waiting"].key],
        "workflow": {"steps": [{"key": "test", "run": "true"}]},
        "inputs": {"path": "src"},
        "max_attempts": 4,
        "review_required": True,
        "due_at": "2030-01-01T00:00:00Z",
        "estimate": 3,
        "covers": [1],
        "budgets": {"minutes": 5},
    }
    planned = {
        "ref": "two",
        "title": "Measure it",
        "description": "all of it",
        "covers": [1],
        "depends_on": [side.cards["waiting"].key],
        "estimate": 2,
        "labels": ["bench"],
        "priority": 2,
        "workflow": {"steps": [{"key": "test", "run": "true"}]},
        "requires": ["python"],
        "inputs": {"path": "src"},
        "card": side.cards["backlog"].key,
        "dropped": False,
    }
    board = {
        "name": "Payments",
        "repository": "",
        "pull": "manual",
        "allow_commands": False,
        "allow_network": False,
        "enforce_dead_ends": True,
        "answer_by_link": True,
        "budgets": {"cost_usd": "100", "attempts": 1000},
        "share": 3,
        "max_running": 100,
        "caps": {"labels": {"gpu": 9}, "workers": {"ada-*": 9, "agent": 50}, "each_worker": 20},
        "ageing_seconds": 86_400,
        "defaults": {
            "max_attempts": 2,
            "review_required": False,
            "lease_seconds": 30,
            "follow_ups": 3,
            "start_from_parents": True,
            "test_command": "python -m pytest -q",
            "same_failures": 3,
            "enforce_decisions": False,
            "memory_mb": 512,
            "processes": 64,
            "output_mb": 8,
            "keep_ignored": ["node_modules/.cache", "**/*.tsbuildinfo"],
        },
    }
    columns = [
        {"name": c.name, "kind": c.kind, "wip_limit": 5, "id": str(c.pk)}
        for c in sorted(side.columns.values(), key=lambda c: c.position)
    ]
    bodies: dict[str, Any] = {
        "create_board": {
            **board,
            "key": "PAY",
            "template": "software",
            "columns": [{k: v for k, v in c.items() if k != "id"} for c in columns],
        },
        "edit_board": {**board, "columns": columns, "archived": False},
        "set_member": {"user": "ann", "role": "operator"},
        "import_cards": {
            "files": [{"name": "plan.md", "text": "# Ship it\n- [ ] write it\n  - [x] plan it\n"}],
            "format": "markdown",
            "dry_run": False,
            "keep_going": True,
        },
        "create_goal": {**goal, "board": side.board.key},
        "edit_goal": {**goal, "reason": "they asked for it"},
        "create_plan": {"items": [planned], "note": "so", "markdown": "- [ ] Tell them\n"},
        "edit_plan": {"items": [planned], "note": "so"},
        "apply_plan": {
            "accept": ["one"],
            "drop": [side.cards["waiting"].key],
            "confirm": [side.cards["running"].key],
        },
        "ask_for_plan": {"note": "so", "step": {"agent": {"cli": "claude"}}},
        "propose_plan": {"items": [planned], "note": "so"},
        "withdraw_amendment": {"reason": "they did not"},
        "say_criterion": {"criterion": "1", "met": True, "detail": "I looked"},
        "create_decision": {**decision, "pinned": True},
        "create_discovery": {**discovery, "pinned": True},
        "pin_decision": {"pinned": True},
        "pin_discovery": {"pinned": True},
        "pin_message": {"pinned": True},
        "resolve_discovery": {"resolution": "made faster", "wont_do": False},
        "merge_discovery": {"into": side.extra["twin"]},
        "revive_discovery": {"because": "the lock file changed"},
        "create_card": {
            **card,
            "board": side.board.key,
            "workflow": None,
            "template": "Nightly",
        },
        "set_secret": {"value": "correct horse battery staple"},
        "create_template": {
            "name": "Release",
            "description": "cuts one",
            "source": "steps: [{key: a, run: 'true'}]",
        },
        "edit_template": {
            "name": "Weekly",
            "description": "",
            "source": "python: weekly",
        },
        "edit_card": card,
        "move_card": {
            "column": "in_progress",
            "before": side.cards["waiting"].key,
            "after": None,
            "goal": None,
            "priority": 1,
        },
        "change_cards": {
            "cards": [side.cards["waiting"].key],
            "action": "edit",
            "column": "backlog",
            "changes": {
                "priority": 1,
                "goal": str(side.goal.pk),
                "add_labels": ["urgent"],
                "remove_labels": ["later"],
                "due_at": "2030-01-01T00:00:00Z",
            },
        },
        "post_message": {
            "text": "take a",
            "answers": side.question.pk,
            "reason": "it is there",
            "pinned": False,
        },
        "reject_card": {"reason": "not yet"},
        "create_view": {"name": "Stuck", "query": "show=trouble", "shared": True},
        "edit_view": {"name": "Stuck", "query": "show=trouble&lanes=goal", "shared": False},
        "rewind_card": {"checkpoint": 1},
        "bring_bundle": {"artifact": side.extra["bundle"]},
        "name_checkpoint": {"tag": "green"},
        "edit_storage": {"keep_last": 5, "keep_days": 30},
        "adopt_salvage": {"next_step": "read the log"},
        "find_answer": {
            "step": "ask",
            "question": "Which one?",
            "same_words": True,
            "options": ["this", "that"],
            "question_kind": "choice",
            "detail": "both are green",
        },
        "tell_worker": {"max_tokens": 2000},
        "start_attempt": {"have": ["a" * 40]},
        "send_workspace": {"bundle": side.extra["snapshot"]},
        "remark_on_line": {
            "text": "say it politely",
            "checkpoint": 1,
            "path": "app.py",
            "side": "new",
            "line": 1,
        },
        "resolve_remark": {"resolved": True},
        "merge_card": {
            "strategy": "merge",
            "into": "main",
            "message": "Merge it",
            "checkpoint": 1,
            "approve": True,
            "on_conflict": "refuse",
            "reason": "mend the conflicts",
            "with_secrets": False,
        },
        "fork_card": {
            "checkpoint": 1,
            "title": "another way",
            "approach": "by hand",
            "approaches": ["by hand", "generated"],
            "count": 2,
            "choose": "first",
            "score": "",
            "deadline_seconds": None,
            "budgets": {"attempts": 3},
        },
        "split_card": {
            "checkpoint": 1,
            "parts": [
                {
                    "title": "the reader",
                    "description": "In chunks.",
                    "priority": 1,
                    "labels": ["io"],
                    "requires": ["python"],
                    "workflow": {"steps": [{"key": "a", "run": "true"}]},
                    "inputs": {},
                    "max_attempts": 2,
                    "review_required": False,
                    "budgets": {"attempts": 3},
                },
                {"title": "the writer"},
            ],
        },
        "create_token": {
            "name": "ci",
            "board": side.board.key,
            "role": "viewer",
            "carries_secrets": True,
            "expires_at": "2030-01-01T00:00:00Z",
        },
        "claim_card": {
            "worker": "ada-7",
            "capabilities": ["python"],
            "kinds": ["run"],
            "lacks": ["run"],
            "boards": [side.board.key],
            "goal": str(side.goal.pk),
            "card": side.cards["waiting"].key,
            "lease_seconds": 60,
            "wait_seconds": 0,
            "briefing_tokens": 2000,
            "workflows": False,
        },
        "describe_attempt": {"approach": "step by step", "differs": "slower"},
        "heartbeat": {"note": "building", "percent": 40, "seen_message": 1},
        "begin_step": {
            **finish,
            "key": "publish",
            "title": "Publish",
            "kind": "run",
            "input": {"to": "test"},
            "depends_on_input": True,
            "continues": True,
            "seconds": 1.5,
        },
        "finish_step": finish,
        "save_checkpoint": checkpoint,
        "append_log": {
            "step": "build/wheel",
            "stream": "stdout",
            "text": "building\n",
            "pieces": [{"step": "build/wheel", "stream": "note", "text": "building\n"}],
        },
        "record_decision": decision,
        "record_discovery": discovery,
        "propose_card": {
            k: v
            for k, v in card.items()
            if k
            in {"title", "description", "priority", "labels", "requires", "depends_on", "inputs"}
        }
        | {"covers": [1], "estimate": 2, "plan": True, "ref": "three"}
        | {"step": "plan/one"}
        | {"workflow": {"steps": [{"key": "test", "run": "true"}]}},
        "complete_attempt": {
            "summary": "all done",
            "result": {"ok": True},
            "score": {"value": 0.5, "problem": ""},
            "evidence": [
                {
                    "criterion": "1",
                    "met": True,
                    "detail": "see log",
                    "artifact": side.artifact,
                    "step": "build",
                }
            ],
        },
        "fail_attempt": {
            "error": "no disk",
            "lesson": "clean first",
            "retryable": True,
            "fault": "infrastructure",
            "evidence": [
                {
                    "criterion": "1",
                    "met": True,
                    "detail": "see log",
                    "artifact": side.artifact,
                    "step": "build",
                }
            ],
        },
        "block_attempt": {
            "reason": "need a key",
            "question": "Which?",
            "options": ["a", "b"],
            "question_kind": "choice",
            "detail": "rm -r build",
            "timeout_seconds": 3600,
            "on_timeout": "default",
            "default": "a",
        },
        "release_attempt": {
            "summary": "half done",
            "next_step": "the rest",
            "reason": "rate_limited",
            "retry_after_seconds": 5,
        },
        "salvage_attempt": {
            "summary": "what I had",
            "workspace": workspace,
            "artifacts": files,
            "bundle": side.extra["snapshot"],
        },
        "create_artifact": b"some bytes",
        "edit_notice": {"read": True, "done": False, "snoozed_until_at": "2040-01-01T00:00:00Z"},
        "edit_notification_rules": {
            "kinds": {
                "question": ["browser", "email", "webhook"],
                "review": ["browser"],
                "blocked": ["webhook"],
                "stalled": ["browser"],
                "budget": ["email"],
                "goal": ["browser"],
                "host": ["email"],
                "mention": ["browser"],
            },
            "scope": "chosen",
            "boards": [side.board.key],
            "digest": "daily",
            "digest_at": "08:30",
            "quiet_from": "22:00",
            "quiet_to": "07:00",
            "time_zone": "Europe/Berlin",
            "urgent_passes": True,
            "email": "ann@example.org",
        },
        "watch_card": {"watching": True},
        "create_webhook": {
            "url": "https://hooks.example.org/in?a=1",
            "kinds": ["card.*", "attempt.failed"],
            "active": True,
        },
        "set_personal_webhook": {
            "url": "https://me.example.org/",
            "kinds": ["notice.*"],
            "active": True,
        },
        "edit_webhook": {
            "url": "https://hooks.example.org/other",
            "kinds": ["card.blocked"],
            "active": False,
            "new_secret": True,
        },
    }
    return bodies.get(name)


def state_digest() -> str:
    """Return a digest of every row of every table, but for when a token was last used."""
    digest = hashlib.sha256()
    quoted = connection.ops.quote_name
    with connection.cursor() as cursor:
        for table, columns in _columns().items():
            names = ", ".join(map(quoted, columns))
            cursor.execute(f"SELECT {names} FROM {quoted(table)}")
            digest.update(table.encode())
            for row in sorted(repr(row) for row in cursor.fetchall()):
                digest.update(row.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@cache
def _columns() -> dict[str, list[str]]:
    with connection.cursor() as cursor:
        tables = sorted(connection.introspection.table_names(cursor))
        return {
            table: [
                column.name
                for column in connection.introspection.get_table_description(cursor, table)
                if column.name != "last_used_at"
            ]
            for table in tables
        }


@contextmanager
def undone() -> Iterator[None]:
    """Undo what happens inside, so that many calls can start from one world."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
