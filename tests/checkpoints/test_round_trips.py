"""Whatever is edited, saved, gone back to, forked, left behind and thrown away in whatever order:
what a checkpoint gives back is exactly the files and the memory that were there."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.db import transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from boards import leases
from boards.models import Attempt, Card
from checkpoints import lines, recovery, retention, salvaging, steps
from checkpoints.models import Checkpoint, Keeping, Salvage
from checkpoints.stores import store_of
from checkpoints.verifying import verify
from checkpoints.workspaces import Workspace
from tests.factories import claimed, make_board, make_card, make_checkpoint, make_step, now_is

#: Names that have been trouble elsewhere: spaces, quotes, a dash, letters of a case, no UTF-8.
NAMES = st.sampled_from(
    [
        b"a",
        b"A",
        b"d/b",
        b"d/e/c",
        b"-rf",
        b"two words",
        b"qu'o\"te",
        "ü".encode(),
        b"odd\xff",
        b"d2/x\n",
    ]
)
CONTENTS = st.binary(max_size=40) | st.sampled_from(
    [b"", b"one\r\ntwo\r\n", b"$Id$\n", b"x" * 9000]
)
PICK = st.integers(0, 100)

#: A file as it is told apart: its content, "x" or "-", or where a link leads.
Files = dict[bytes, tuple[str, bytes]]


@dataclass
class Known:
    """What the model knows of a card."""

    card: Card
    attempt: Attempt
    folder: Workspace
    files: Files = field(default_factory=dict)  # as they lie there
    saved: Files = field(default_factory=dict)  # where the card stands
    steps: dict[str, Any] = field(default_factory=dict)
    points: dict[int, tuple[Files, dict[str, Any], Any]] = field(default_factory=dict)


class TimeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.block = transaction.atomic()
        self.block.__enter__()
        self.place = Path(tempfile.mkdtemp())
        self.told = (site.DATA_DIR, site.SNAPSHOTS_DIR)
        site.DATA_DIR, site.SNAPSHOTS_DIR = self.place, self.place / "snapshots"
        self.board = make_board()
        self.cards: list[Known] = []
        self._begin(make_card(self.board), None)

    def teardown(self) -> None:
        try:
            for known in self.cards:
                known.folder.close()
                assert verify(now_is(known.card)).intact
                for number in known.points:
                    self._check(known, number)
        finally:
            site.DATA_DIR, site.SNAPSHOTS_DIR = self.told
            transaction.set_rollback(True)
            self.block.__exit__(None, None, None)
            shutil.rmtree(self.place, ignore_errors=True)

    def _begin(self, card: Card, known: Known | None) -> Known:
        attempt = claimed(card)
        head = recovery.head(card.pk, attempt.line)
        folder = self._folder(card, attempt.number, head)
        salvaging.record(card, folder.store)
        if known is None:
            known = Known(card, attempt, folder)
            self.cards.append(known)
        known.attempt, known.folder = attempt, folder
        return known

    def _folder(
        self, card: Card, number: int, point: Checkpoint | None, root: str = "workspaces"
    ) -> Workspace:
        return Workspace.prepare(
            self.place / root,
            store_of(self.board.pk),
            card_key=card.key,
            attempt_number=number,
            resume_commit=(point.workspace or {})["commit"] if point else None,
        )

    def _check(self, known: Known, number: int) -> None:
        point = Checkpoint.objects.get(card=known.card, number=number)
        files, _, state = known.points[number]
        if point.dropped_at is not None:
            return
        folder = self._folder(known.card, number, point, f"other-{time.monotonic_ns()}")
        folder.close()
        assert read(folder.tree) == files
        assert point.state == state

    @rule(which=PICK, name=NAMES, content=CONTENTS, how=st.sampled_from(["-", "x", "link"]))
    def write(self, which: int, name: bytes, content: bytes, how: str) -> None:
        known = self.cards[which % len(self.cards)]
        if any(
            other.startswith(name + b"/") or name.startswith(other + b"/") for other in known.files
        ):
            return
        path = os.path.join(os.fsencode(known.folder.tree), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        if how == "link":
            os.symlink(b"../" + name, path)
            known.files[name] = ("link", b"../" + name)
            return
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o755 if how == "x" else 0o644)
        known.files[name] = (how, content)

    @rule(which=PICK, victim=PICK)
    def delete(self, which: int, victim: int) -> None:
        known = self.cards[which % len(self.cards)]
        if known.files:
            name = sorted(known.files)[victim % len(known.files)]
            os.unlink(os.path.join(os.fsencode(known.folder.tree), name))
            del known.files[name]

    @rule(which=PICK, key=st.sampled_from("abcd"), result=st.integers(0, 9))
    def record_step(self, which: int, key: str, result: int) -> None:
        known = self.cards[which % len(self.cards)]
        if key not in known.steps:
            make_step(known.attempt, key, result=result)
            known.steps[key] = result

    @rule(which=PICK, state=st.none() | st.integers(0, 9) | st.just({"large": "y" * 3000}))
    def save(self, which: int, state: Any) -> None:
        known = self.cards[which % len(self.cards)]
        snapshot = known.folder.snapshot("saved").as_json()
        point = make_checkpoint(known.attempt, state=state, workspace=snapshot)
        known.saved = dict(known.files)
        known.points[point.number] = (dict(known.files), copy.deepcopy(known.steps), state)

    @rule(which=PICK)
    def hand_over(self, which: int) -> None:
        known = self.cards[which % len(self.cards)]
        left = known.files != known.saved
        leases.release(known.attempt.pk, "half", "rest")
        known.folder.close()
        self._begin(known.card, known)
        self._stands(known)
        if left and known.files not in [files for files, _, _ in known.points.values()]:
            discarded = known.folder.discarded
            assert discarded is not None
            assert Salvage.objects.filter(attempt__card=known.card, commit=discarded).exists()
        known.files = dict(known.saved)

    def _stands(self, known: Known) -> None:
        assert read(known.folder.tree) == known.saved
        recorded = steps.recorded(known.card.pk, known.attempt.line)
        assert {key: step.result for key, step in recorded.items()} == known.steps

    def _kept(self, known: Known, which: int) -> int | None:
        kept = Checkpoint.objects.kept().filter(card=known.card).order_by("number")
        numbers = list(kept.values_list("number", flat=True))
        return numbers[which % len(numbers)] if numbers else None

    @rule(which=PICK, point=PICK)
    def rewind(self, which: int, point: int) -> None:
        known = self.cards[which % len(self.cards)]
        number = self._kept(known, point)
        if number is None:
            return
        lines.rewind(known.card.pk, number, "user:ann")
        known.folder.close()
        known.saved, known.steps, _ = copy.deepcopy(known.points[number])
        known.card = now_is(known.card)
        self._begin(known.card, known)
        known.files = dict(known.saved)
        self._stands(known)

    @precondition(lambda self: len(self.cards) < 3)
    @rule(which=PICK, point=PICK)
    def fork(self, which: int, point: int) -> None:
        known = self.cards[which % len(self.cards)]
        number = self._kept(known, point)
        if number is None:
            return
        (made,) = lines.fork(known.card.pk, number, "user:ann")
        forked = self._begin(made, None)
        forked.saved, forked.steps, _ = copy.deepcopy(known.points[number])
        forked.files = dict(forked.saved)
        self._stands(forked)

    @rule(which=PICK)
    def adopt(self, which: int) -> None:
        known = self.cards[which % len(self.cards)]
        salvage = Salvage.objects.filter(attempt__card=known.card, adopted_as=None).first()
        if salvage is None:
            return
        point = salvaging.adopt(known.card.pk, salvage.pk, "user:ann")
        known.folder.close()
        elsewhere = self._folder(known.card, 0, point, f"adopted-{time.monotonic_ns()}")
        elsewhere.close()
        known.saved = read(elsewhere.tree)
        known.points[point.number] = (dict(known.saved), copy.deepcopy(known.steps), point.state)
        self._begin(known.card, known)
        known.files = dict(known.saved)
        self._stands(known)

    @rule(last=st.integers(1, 3))
    def throw_away(self, last: int) -> None:
        rule, _ = Keeping.objects.update_or_create(board=self.board, defaults={"keep_last": last})
        for known in self.cards:
            retention.drop(known.card.pk, rule)
            retention.release(now_is(known.card))
        retention.collect(rule, now=True)


def read(tree: Path) -> Files:
    """Return the files of a folder as the model tells them apart."""
    found: Files = {}
    root = os.fsencode(tree)
    for here, folders, names in os.walk(root):
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(here, f)))]:
            path = os.path.join(here, name)
            key = os.path.relpath(path, root)
            if os.path.islink(path):
                found[key] = ("link", os.readlink(path))
            else:
                with open(path, "rb") as file:
                    found[key] = ("x" if os.stat(path).st_mode & 0o100 else "-", file.read())
    return found


@pytest.mark.django_db
def test_what_comes_back_is_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SETTLED", timedelta(seconds=-5))
    monkeypatch.setattr(retention, "UNREFERENCED", timedelta(0))
    usual = settings()
    run_state_machine_as_test(
        TimeMachine,
        settings=settings(
            usual, max_examples=max(3, usual.max_examples // 12), stateful_step_count=14
        ),
    )
