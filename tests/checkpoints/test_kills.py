"""Killed with SIGKILL while it snapshots, restores, uploads and throws away: nothing recorded is
lost, nothing recorded leads nowhere, and git and the digests agree.

A child does all of it in a loop on one card and writes down what it was told is done; it is
killed at a random moment, with or without the git it runs, and another goes on. ``FULL=1``
kills 200 times.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from boards import leases
from boards.models import Attempt, Card
from checkpoints import artifacts, lines, logs, recovery, retention, salvaging
from checkpoints.models import Artifact, ArtifactLink, Checkpoint, Keeping, Salvage
from checkpoints.snapshots import Busy
from checkpoints.stores import store_of
from checkpoints.verifying import verify
from checkpoints.workspaces import Workspace
from tests.checkpoints.killing import killed, paced, say
from tests.factories import make_card, now_is

KILLS = 200 if os.environ.get("FULL") else 20
LOOK_AFTER = 10  # kills
#: From a claim to the first checkpoint.
QUICK_SECONDS = 0.5
SEED = int(os.environ.get("SEED") or 6)

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True)]


class Worker:
    """What a child does until it is killed."""

    def __init__(self, card: Card, root: Path, told: Path, seed: int) -> None:
        self.card, self.root, self.told = card, root, told
        self.rng = random.Random(seed)
        for live in Attempt.objects.live().filter(card=card):
            leases.expire(live.pk, actor="system:test")
        self._claim()

    def run(self) -> None:
        does = [self.save, self.save, self.upload, self.leave, self.hand_over, self.throw_away]
        while True:
            self.rng.choice(does)()

    def say(self, *words: object) -> None:
        say(self.told, *words)

    def _claim(self) -> None:
        Card.objects.filter(pk=self.card.pk).update(not_before=None, failures=0)
        attempt = leases.claim("ada", card_id=self.card.pk)
        assert attempt is not None
        self.attempt = attempt
        head = recovery.head(self.card.pk, attempt.line)
        while head is not None and not (head.workspace or {}).get("commit"):
            head = head.parent
        self.files = Workspace.prepare(
            self.root,
            store_of(self.card.board_id),
            card_key=self.card.key,
            attempt_number=attempt.number,
            resume_commit=(head.workspace or {})["commit"] if head else None,
        )
        self.say("restored", head.number if head else 0, tree_digest(self.files.tree))
        salvaging.record(self.card, self.files.store)

    def edit(self) -> None:
        for _ in range(self.rng.randint(1, 8)):
            path = self.files.tree / f"d{self.rng.randint(0, 3)}" / f"f{self.rng.randint(0, 12)}"
            path.parent.mkdir(exist_ok=True)
            if path.exists() and self.rng.random() < 0.3:
                path.unlink()
            else:
                path.write_bytes(self.rng.randbytes(self.rng.randint(0, 20_000)))

    def save(self, **content: Any) -> None:
        self.edit()
        whole = tree_digest(self.files.tree)
        point, _ = recovery.save(
            self.attempt.pk,
            {
                "summary": whole,
                "state": {"tree": whole, "pad": "x" * self.rng.choice([10, 4000])},
                "workspace": self.files.snapshot("save").as_json(),
                **content,
            },
        )
        self.say("saved", point.number, point.digest)

    def upload(self) -> None:
        content = self.rng.randbytes(self.rng.randint(1, 300_000))
        kept, _ = artifacts.store([content[:1000], content[1000:]], principal="system")
        self.say("stored", kept.pk)
        logs.append(self.attempt.pk, [("build", "stdout", "output\n" * 50)])
        self.save(artifacts=[{"name": "report", "sha256": kept.pk}])

    def leave(self) -> None:
        self.edit()
        salvaging.leave(self.files, self.card)

    def hand_over(self) -> None:
        if self.rng.random() < 0.3:
            self.edit()  # and leave it to whoever comes
        leases.release(self.attempt.pk, "half", "rest")
        self.files.close()
        newest = Checkpoint.objects.kept().filter(card=self.card).order_by("-number")[:3]
        if newest and self.rng.random() < 0.3:
            lines.rewind(self.card.pk, self.rng.choice(list(newest)).number, "user:ann")
        self._claim()

    def throw_away(self) -> None:
        rule = Keeping.objects.get(board=self.card.board_id)
        retention.drop(self.card.pk, rule)
        retention.drop_output(now_is(self.card), rule)
        with contextlib.suppress(Busy):  # a git that outlived its worker still throws away
            retention.release(now_is(self.card))
        retention.collect(rule, now=True)
        for shard in self.rng.sample(list(artifacts.shards()), 64):
            artifacts.collect(shard, timezone.now())
        with contextlib.suppress(Exception):
            store_of(self.card.board_id).tidy()


def tree_digest(tree: Path) -> str:
    """Return a digest of all files of a workspace."""
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(tree)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def look(card: Card, root: Path, told: Path) -> None:
    """Pass only if all that was said to be done is there, whole, and adds up."""
    store = store_of(card.board_id)
    lines_said = [line.split() for line in told.read_text().splitlines()]
    points = {p.number: p for p in Checkpoint.objects.filter(card=card)}
    for word, *rest in lines_said:
        if word == "saved":
            assert points[int(rest[0])].digest == rest[1]
        elif word == "restored" and int(rest[0]):
            assert points[int(rest[0])].summary == rest[1], "what was restored is not what was"
    verdict = verify(card)
    assert verdict.intact, verdict.faults
    for kept in Salvage.objects.exclude(commit=""):
        assert store.has(kept.commit), f"salvage {kept.pk} leads nowhere"
    for artifact in Artifact.objects.all():
        assert artifacts.path_of(artifact.pk).stat().st_size == artifact.size_bytes
    named = {a["sha256"] for p in points.values() if not p.dropped_at for a in p.artifacts}
    linked = ArtifactLink.objects.filter(card=card).values_list("artifact", flat=True)
    assert named == set(linked)
    checked = subprocess.run(
        ["git", "fsck", "--full", "--strict", "--no-dangling"],
        cwd=store.path,
        env=store.git.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    head = recovery.head(card.pk, now_is(card).line)
    if head is not None:
        elsewhere = Workspace.prepare(
            root.with_name(f"elsewhere-{time.monotonic_ns()}"),
            store,
            card_key=card.key,
            attempt_number=99_999,
            resume_commit=(head.workspace or {})["commit"],
        )
        elsewhere.close()
        assert tree_digest(elsewhere.tree) == head.summary


def test_nothing_is_lost_whenever_it_is_killed(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_DIR = tmp_path
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    # As strict as can be: whatever nothing refers to goes at once.
    monkeypatch.setattr(retention, "SETTLED", timedelta(seconds=0))
    monkeypatch.setattr(retention, "UNREFERENCED", timedelta(seconds=0))
    monkeypatch.setattr("checkpoints.workspaces.LOCK_WAIT_SECONDS", 0.5)
    card = make_card()
    Keeping.objects.create(board=card.board, keep_last=2)
    told, root = tmp_path / "told", tmp_path / "workspaces"
    told.touch()
    rng = random.Random(SEED)

    def once() -> None:
        worker = Worker(card, root, told, SEED)
        worker.save()
        worker.files.close()

    pace = paced(once, QUICK_SECONDS)
    first = len(told.read_text())
    for number in range(1, KILLS + 1):
        seed = SEED * 10_000 + number
        killed(lambda seed=seed: Worker(card, root, told, seed).run(), told, rng, pace=pace)  # type: ignore[misc]
        if number % LOOK_AFTER == 0:
            look(card, root, told)
    said = told.read_text()[first:]
    counts = {word: said.count(word) for word in ("saved", "restored", "stored")}
    dropped = Checkpoint.objects.filter(dropped_at__isnull=False).count()
    logging.getLogger(__name__).info("%d kills: %s, %d dropped", KILLS, counts, dropped)
    assert min(counts.values()) > 0
    assert dropped
