"""Cards with their history in one file, brought in elsewhere whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from boards import cards, leases
from boards.models import Attempt, Board, Card
from boards.secrets import keeping
from checkpoints import (
    artifacts,
    bundles,
    lines,
    loglines,
    logs,
    output,
    recovery,
    retention,
    salvaging,
    spilling,
    steps,
)  # fmt: skip
from checkpoints.bundles import BadBundle
from checkpoints.loglines import Log
from checkpoints.models import Artifact, Brought, Checkpoint, Keeping, LogChunk, Salvage, Step
from checkpoints.stores import store_of
from checkpoints.verifying import verify
from checkpoints.workspaces import Workspace
from goals.models import Decision, Discovery, Goal
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_step,
    make_user,
    now_is,
)
from tests.repositories import git

pytestmark = pytest.mark.django_db


@pytest.fixture
def place(tmp_path: Path, settings: Any) -> Path:
    settings.DATA_DIR = tmp_path
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    return tmp_path


@pytest.fixture
def lived(place: Path) -> Card:
    """A card that was worked on twice, rewound once, with files, artifacts, memory and words."""
    board = make_board()
    card = make_card(board, goal=make_goal(board, criteria=["it works"]), labels=["x"])
    for number, name in enumerate(("a", "b"), 1):
        attempt = claimed(card)
        head = recovery.head(card.pk, attempt.line)
        files = Workspace.prepare(
            place / "workspaces",
            store_of(board.pk),
            card_key=card.key,
            attempt_number=number,
            resume_commit=(head.workspace or {})["commit"] if head else None,
        )
        (files.tree / f"{name}.txt").write_text(name)
        kept, _ = artifacts.store([f"about {name}".encode()], principal="system")
        make_step(attempt, f"step-{name}", result={"n": number})
        recovery.record_memory(attempt.pk, decisions=[{"title": f"decide {name}"}])
        make_checkpoint(
            attempt,
            summary=name,
            state={"at": name, "x": 1.5},
            workspace=files.snapshot(name).as_json(),
            artifacts=[{"name": "report", "sha256": kept.pk}],
        )
        logs.append(attempt.pk, [("build", "stdout", f"\x1b[1mbuild {name}\n")])
        logs.append(attempt.pk, [("build", "stderr", "oh\nhalf"), ("build", "stderr", " a line")])
        (files.tree / "late.txt").write_text("late")
        salvaging.leave(files, card)
        files.close()
        leases.release(attempt.pk, "half", "rest")
    recovery.record_memory(
        claimed(card).pk, discoveries=[{"kind": "dead_end", "title": "not like that"}]
    )
    cards.say(card.pk, "user:ann", "look at this")
    lines.rewind(card.pk, 1, "user:ann")
    return now_is(card)


def packed(card: Card, **more: Any) -> bytes:
    with bundles.export([card], **more) as file:
        return file.read()


def stored(content: bytes) -> str:
    return artifacts.store([content], principal="system")[0].pk


def elsewhere(place: Path, settings: Any) -> Board:
    """Return a board whose store of snapshots and artifacts know nothing yet."""
    settings.DATA_DIR = place / "elsewhere"
    settings.SNAPSHOTS_DIR = settings.DATA_DIR / "snapshots"
    settings.DATA_DIR.mkdir()
    return make_board()


def test_a_card_comes_whole_and_goes_on(lived: Card, place: Path, settings: Any) -> None:
    content = packed(lived)
    old = {p.number: p.digest for p in Checkpoint.objects.filter(card=lived)}
    board = elsewhere(place, settings)
    brought = bundles.bring(board, stored(content), "user:olga")
    card = Card.objects.get(key=brought.cards[lived.key])
    assert (card.title, card.labels, card.line, card.fence) == (
        lived.title, ["x"], 2, lived.fence,
    )  # fmt: skip
    assert (card.state, card.paused) == ("backlog", True)
    assert {p.number: p.digest for p in Checkpoint.objects.filter(card=card)} == old
    verdict = verify(card)
    assert verdict.intact, verdict.faults
    assert (verdict.workspaces, verdict.artifacts) == (2, 2)
    assert card.goal is not None
    assert card.goal.board_id == board.pk
    assert Decision.objects.filter(card_id=card.pk).count() == 2
    assert Discovery.objects.get(card_id=card.pk).title == "not like that"
    assert "look at this" in card.messages.values_list("text", flat=True)
    assert not Attempt.objects.live().filter(card=card).exists()
    kept = Salvage.objects.filter(attempt__card=card)
    assert kept.count() == Salvage.objects.filter(attempt__card=lived).count() > 0
    # It goes on from where it stood, under its own lock and rules.
    cards.resume(card.pk, "user:olga")
    cards.move(card.pk, "user:olga", board.columns.get(kind="in_progress").pk)
    attempt = claimed(card)
    assert (attempt.number, attempt.resumed_from) == (lived.fence + 1, 1)
    assert {k: s.result for k, s in steps.recorded(card.pk, 2).items()} == {"step-a": {"n": 1}}
    commit = Checkpoint.objects.get(card=card, number=1).workspace["commit"]
    folder = Workspace.prepare(
        place / "there",
        store_of(board.pk),
        card_key=card.key,
        attempt_number=attempt.number,
        resume_commit=commit,
    )
    folder.close()
    assert {p.name for p in folder.tree.iterdir()} == {"a.txt"}
    assert make_checkpoint(attempt).number == 3
    assert verify(card).intact
    store = store_of(board.pk)
    store.collect([], 0)
    assert verify(card).intact
    assert store.run("fsck", "--full", "--strict", "--no-dangling") == b""


def printed(card: Card, number: int) -> list[Any]:
    log = Log(Attempt.objects.get(card=card, number=number).pk)
    return [(x.step, x.stream, x.at, x.text, x.style) for x in loglines.stretch(log, 1, 1000)]


def test_live_output_comes_along_line_by_line(lived: Card) -> None:
    brought = bundles.bring(make_board(), stored(packed(lived)), "user:olga")
    card = Card.objects.get(key=brought.cards[lived.key])
    for number in (1, 2):
        assert printed(card, number) == printed(lived, number)
    assert [line[3] for line in printed(card, 1)] == ["\x1b[1mbuild a", "oh", "half a line"]


def test_of_much_output_the_end_comes_along_and_a_word_about_the_rest(
    lived: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = claimed(lived)
    logs.append(many.pk, [("test", "stdout", f"{n:09}\n") for n in range(100)])
    leases.release(many.pk, "half", "rest")
    # What there is room for: ten pieces of the newest attempt, then nothing of the others.
    room = 10 * (output.PIECE + 10) + 2 * output.PIECE
    monkeypatch.setattr(output, "MAX_OF_ATTEMPT", room)
    monkeypatch.setattr(output, "MAX_IN_ALL", room)
    content = packed(lived)
    monkeypatch.undo()
    brought = bundles.bring(make_board(), stored(content), "user:olga")
    card = Card.objects.get(key=brought.cards[lived.key])
    told = [line[3] for line in printed(card, many.number)]
    assert told == [
        "[900 characters before this stayed where the bundle was written.]",
        *(f"{n:09}" for n in range(90, 100)),
    ]
    assert [line[3] for line in printed(card, 1)] == [
        "[26 characters before this stayed where the bundle was written.]"
    ]


def test_a_bundle_from_before_live_output_came_along_is_read(lived: Card) -> None:
    content = remade(packed(lived), lambda data, parts: parts.pop("output.jsonl") and None)
    brought = bundles.bring(make_board(), stored(content), "user:olga")
    assert printed(Card.objects.get(key=brought.cards[lived.key]), 1) == []


def test_the_same_file_again_gives_the_same_cards(lived: Card) -> None:
    sha, board = stored(packed(lived)), make_board()
    first = bundles.bring(board, sha, "user:olga")
    count = Card.objects.count()
    assert bundles.bring(board, sha, "user:bob") == first
    assert bundles.bring(make_board(), sha, "user:bob") != first
    assert Card.objects.count() == count + 1


def test_a_fork_takes_its_origin_along_and_a_goal_all_its_cards(lived: Card) -> None:
    (fork,) = lines.fork(lived.pk, 1, "user:ann")
    point = make_checkpoint(claimed(fork), summary="forked on")
    brought = bundles.bring(make_board(), stored(packed(fork)), "user:olga")
    assert set(brought.cards) == {lived.key, fork.key}
    copy = Card.objects.get(key=brought.cards[fork.key])
    assert Checkpoint.objects.get(card=copy).digest == point.digest
    assert verify(copy).intact
    assert copy.origin_checkpoint is not None
    assert lived.goal is not None
    alone = make_card(lived.board, goal=lived.goal, depends_on=[lived])
    with bundles.export(bundles.of_goal(lived.goal), lived.goal) as file:
        content = file.read()
    brought = bundles.bring(make_board(), stored(content), "user:olga")
    assert set(brought.cards) == {lived.key, fork.key, alone.key}
    copied = Card.objects.get(key=brought.cards[alone.key])
    assert copied.depends_on.get().key == brought.cards[lived.key]
    assert copied.unmet_dependencies == 1


def test_what_is_no_longer_kept_comes_as_that(lived: Card) -> None:
    Keeping.objects.create(board=lived.board, keep_days=0)
    attempt = claimed(lived)
    make_checkpoint(attempt, summary="c", artifacts=[])
    leases.release(attempt.pk, "half", "rest")
    dropped = retention.drop(lived.pk, Keeping.objects.get())
    brought = bundles.bring(make_board(), stored(packed(lived)), "user:olga")
    copy = Card.objects.get(key=brought.cards[lived.key])
    gone = Checkpoint.objects.filter(card=copy, dropped_at__isnull=False)
    assert list(gone.values_list("number", flat=True)) == dropped
    assert verify(copy).intact


# ── refused ──


def remade(content: bytes, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> bytes:
    """Return the bundle with something changed and the manifest made to fit."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        parts = {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar}
    del parts["manifest.json"]
    data = json.loads(parts["data.json"])
    change(data, parts)
    parts["data.json"] = json.dumps(data).encode()
    files = {n: {"sha256": hashlib.sha256(b).hexdigest()} for n, b in parts.items()}
    manifest = json.dumps({"format": bundles.FORMAT, "files": files}).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, body in {"manifest.json": manifest, **parts}.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def _summary(data: dict[str, Any], parts: dict[str, bytes]) -> None:
    data["checkpoint"][0]["summary"] = "another story"


def _tree(data: dict[str, Any], parts: dict[str, bytes]) -> None:
    for row in data["salvage"]:
        row["workspace"]["tree"] = "0" * 40


def _parent(data: dict[str, Any], parts: dict[str, bytes]) -> None:
    del data["checkpoint"][0]


def _pack(data: dict[str, Any], parts: dict[str, bytes]) -> None:
    pack = bytearray(parts["snapshots.pack"])
    pack[len(pack) // 2] ^= 0xFF
    parts["snapshots.pack"] = bytes(pack)


def _status(data: dict[str, Any], parts: dict[str, bytes]) -> None:
    data["attempt"][0]["status"] = "king"


def _twice(data: dict[str, Any], parts: dict[str, bytes]) -> None:
    data["step"].append({**data["step"][0], "id": 999_999})


def _stranger(data: dict[str, Any], parts: dict[str, bytes]) -> None:
    parts["../../etc/cron.d/x"] = b"* * * * * root true"


def _shape(data: dict[str, Any], parts: dict[str, bytes]) -> None:
    data["cards"] = [7]


def _of_output(**changed: Any) -> Callable[..., None]:
    def change(data: dict[str, Any], parts: dict[str, bytes]) -> None:
        first, _, rest = parts["output.jsonl"].partition(b"\n")
        line = json.dumps({**json.loads(first), **changed}).encode()
        parts["output.jsonl"] = line + b"\n" + rest

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(_summary, _tree, _parent, _pack, _status, _twice, _stranger, _shape),
        _of_output(attempt="0" * 32),
        _of_output(stream="king"),
        _of_output(at="yesterday"),
        _of_output(at="2026-01-01"),
        _of_output(text=7),
        _of_output(text="x" * 600_000),
        _of_output(more="x"),
    ],
)
def test_of_a_bundle_that_was_changed_nothing_is_made(
    lived: Card, change: Callable[..., None], place: Path, settings: Any
) -> None:
    content = remade(packed(lived), change)
    board = elsewhere(place, settings)
    models = (Card, Attempt, Step, Checkpoint, Salvage, Goal, Decision, Brought, LogChunk)
    before = [model.objects.count() for model in models]
    with pytest.raises(BadBundle):
        bundles.bring(board, stored(content), "user:olga")
    assert [model.objects.count() for model in models] == before
    assert not (place / "etc").exists()


class TestSecrets:
    """A bundle takes files out of the board, those of every checkpoint."""

    KEY = "sk-live-0123456789abcdef"

    @pytest.fixture
    def worked(self, place: Path) -> Callable[..., Card]:
        """Make a card with a checkpoint after each of the contents of its one file."""
        repository = place / "repository"
        repository.mkdir()
        git(repository, "init", "-q")
        (repository / "old.txt").write_text("nothing here\n")
        git(repository, "add", "-A")
        git(repository, "commit", "-q", "-m", "Begin")
        board = make_board(repository=str(repository))

        def work(*contents: str) -> Card:
            card = make_card(board, goal=make_goal(board))
            attempt = claimed(card)
            files = Workspace.prepare(
                place / "workspaces",
                store_of(board.pk),
                card_key=card.key,
                attempt_number=1,
                repository=board.repository,
            )
            for content in contents:
                (files.tree / "config.py").write_text(content)
                workspace = files.snapshot("it").as_json()
                make_checkpoint(attempt, summary="it", workspace=workspace)
            files.close()
            keeping.put(board.pk, "user:ann", "DEPLOY_KEY", self.KEY)
            return now_is(card)

        return work

    def test_it_is_said_which_files_hold_one_and_a_person_may_take_them_all_the_same(
        self, worked: Callable[..., Card]
    ) -> None:
        card = worked("1\n", f"KEY = '{self.KEY}'\n", "os.environ['DEPLOY_KEY']\n")
        ann = Client()
        ann.force_login(make_user("ann", is_superuser=True))
        for at in (f"/api/v1/cards/{card.key}/bundle", f"/api/v1/goals/{card.goal_id}/bundle"):
            refused = ann.get(at)
            assert (refused.status_code, refused.json()["code"]) == (409, "secret_in_files")
            assert refused.json()["files"] == [{"path": "config.py", "secret": "DEPLOY_KEY"}]
            whole = b"".join(ann.get(f"{at}?with_secrets=true").streaming_content)
            assert b"data.json" in whole
        page = ann.get(f"/cards/{card.key}/bundle")
        assert page.status_code == 409
        shown = page.content.decode()
        assert "config.py holds the secret DEPLOY_KEY" in shown
        assert f"/api/v1/cards/{card.key}/bundle?with_secrets=true" in shown
        assert self.KEY not in shown

    def test_without_one_the_page_leads_to_the_file(self, worked: Callable[..., Card]) -> None:
        card = worked("1\n", "2\n")
        ann = Client()
        ann.force_login(make_user("ann", is_superuser=True))
        assert ann.get(f"/cards/{card.key}/bundle").url == f"/api/v1/cards/{card.key}/bundle"
        file = ann.get(f"/api/v1/cards/{card.key}/bundle")
        assert file.status_code == 200
        file.close()

    def test_what_the_repository_had_before_goes_along_and_counts(
        self, worked: Callable[..., Card]
    ) -> None:
        card = worked("1\n")
        keeping.put(card.board_id, "user:ann", "OTHER", "nothing here")
        with pytest.raises(spilling.SecretInFiles, match=r"old\.txt holds the secret OTHER"):
            bundles.see_what_they_hold([card])

    def test_what_was_left_behind_counts_as_well(self, lived: Card) -> None:
        bundles.see_what_they_hold([lived])
        store = store_of(lived.board_id)
        left = Salvage.objects.filter(attempt__card=lived).first()
        assert left is not None
        blob = store.line("hash-object", "-w", "--stdin", stdin=self.KEY.encode())
        tree = store.line("mktree", stdin=f"100644 blob {blob}\tleft.txt\n".encode())
        commit = store.commit(tree, b"left\n")
        workspace = {**(left.workspace or {}), "commit": commit, "tree": tree}
        Salvage.objects.filter(pk=left.pk).update(workspace=workspace)
        keeping.put(lived.board_id, "user:ann", "DEPLOY_KEY", self.KEY)
        with pytest.raises(spilling.SecretInFiles, match=r"left\.txt"):
            bundles.see_what_they_hold([lived])


def test_what_is_no_bundle_is_refused_in_words(lived: Card) -> None:
    content = packed(lived)
    link = tarfile.TarInfo("artifacts/" + "a" * 64)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(link)
    flipped = bytearray(content)
    flipped[content.index(b"step-a")] ^= 1
    board = make_board()
    for bad in (b"", b"hello", content[:5000], out.getvalue(), bytes(flipped)):
        with pytest.raises(BadBundle):
            bundles.bring(board, stored(bad), "user:olga")
    assert not Brought.objects.exists()
    assert Artifact.objects.filter(pk="a" * 64).count() == 0
