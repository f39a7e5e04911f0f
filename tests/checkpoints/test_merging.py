from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client

from boards import cards, leases
from boards.models import Board, Card
from boards.secrets import keeping
from checkpoints import merging, recovery, secretsearch, spilling
from checkpoints.models import Merge
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace, WorkspaceError
from events.models import Event
from goals.models import Discovery
from kernel.errors import Invalid, Stale, TransitionRefused
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_step,
    make_user,
    now_is,
)
from tests.repositories import git

pytestmark = pytest.mark.django_db


class Place:
    """A repository, a board on it, and cards whose workers change files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = root / "repository"
        self.repository.mkdir()
        git(self.repository, "init", "-q")
        self.upstream("README.md", "hello\n", "Begin")
        self.board = make_board(repository=str(self.repository))

    def upstream(self, name: str, text: str, subject: str = "Work") -> str:
        """Commit a file in the repository itself and return the commit."""
        (self.repository / name).write_text(text)
        git(self.repository, "add", "-A")
        git(self.repository, "commit", "-q", "-m", subject)
        return self.at("main")

    def at(self, name: str) -> str:
        return git(self.repository, "rev-parse", name)

    def show(self, name: str) -> str:
        return git(self.repository, "show", name)

    def worked(self, files: dict[str, str | None], **fields: object) -> Card:
        """Return a card in review whose worker wrote these files; None removes one."""
        card = make_card(self.board, review_required=True, **fields)
        attempt = claimed(card)
        self.changes(attempt, files)
        leases.complete(attempt.pk, "All of it is done.")
        return now_is(card)

    def changes(
        self,
        attempt,
        files: dict[str, str | None],
        summary: str = "Wrote it.",
        keep_ignored: tuple[str, ...] = (),
    ) -> None:
        head = recovery.head(attempt.card_id, attempt.line)
        with_files = Workspace.prepare(
            self.root / "workspaces",
            store_of(self.board.pk),
            card_key=attempt.card.key,
            attempt_number=attempt.number,
            repository=self.board.repository,
            resume_commit=head.workspace["commit"] if head else None,
            keep_ignored=keep_ignored,
        )
        for name, text in files.items():
            path = with_files.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        taken = with_files.snapshot(summary)
        with_files.close()
        make_checkpoint(attempt, summary=summary, workspace=taken.as_json())


@pytest.fixture
def place(tmp_path, settings) -> Place:
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    return Place(tmp_path)


def claimed_again(card: Card):
    """Send the card back and return the next attempt at it."""
    cards.reject(card.pk, "user:ann", "Once more.")
    return claimed(now_is(card))


def merged(card: Card, **how: object) -> Merge:
    return merging.record(merging.push(card, **how), "user:ann")


class TestMerge:
    def test_an_untouched_branch_is_moved_forward_and_the_card_completed(self, place):
        began = place.at("main")
        card = place.worked({"src/app.py": "print(1)\n", "README.md": None}, title="Write the app")
        merge = merged(card)
        assert (merge.strategy, merge.into, merge.branch) == (
            "fast_forward",
            "main",
            f"holdfast/{card.key}",
        )
        assert place.at("main") == place.at(merge.branch) == merge.commit
        assert place.at("main^") == began
        # The folder in which it is checked out came along.
        assert (place.repository / "src/app.py").read_text() == "print(1)\n"
        assert not (place.repository / "README.md").exists()
        assert git(place.repository, "status", "--porcelain") == ""
        told = git(place.repository, "log", "-1", "--format=%an%n%B")
        assert told.startswith("ada (Holdfast)\nWrite the app (")
        trailers = ("Card: " + card.key, "Checkpoint: C1", "Attempt: 1")
        assert "\n".join(f"Holdfast-{line}" for line in trailers) in told
        assert now_is(card).state == "completed"
        event = Event.objects.get(subject_id=card.pk, kind="card.merged")
        assert event.data["commit"] == merge.commit

    def test_work_of_others_is_joined(self, place):
        card = place.worked({"app.py": "print(1)\n"})
        tip = place.upstream("other.py", "2\n")
        merge = merged(card)
        assert merge.strategy == "merge"
        assert git(place.repository, "rev-parse", "main^1") == tip
        assert place.at("main^2") == place.at(merge.branch)
        assert place.show("main:app.py") == "print(1)"
        assert place.show("main:other.py") == "2"

    def test_a_squash_leaves_one_commit_with_the_given_message(self, place):
        card = place.worked({"app.py": "print(1)\n"})
        tip = place.upstream("other.py", "2\n")
        merged(card, strategy="squash", message="Add the app\n\nFor everybody.")
        assert git(place.repository, "rev-list", "--parents", "-1", "main").split()[1:] == [tip]
        assert place.show("main:app.py") == "print(1)"
        assert git(place.repository, "log", "-1", "--format=%s") == "Add the app"

    def test_fast_forward_alone_is_refused_where_others_were_there(self, place):
        card = place.worked({"app.py": "print(1)\n"})
        tip = place.upstream("other.py", "2\n")
        with pytest.raises(TransitionRefused, match="moved on"):
            merging.push(card, strategy="fast_forward")
        assert place.at("main") == tip

    def test_a_conflict_names_the_files_and_changes_nothing(self, place):
        card = place.worked({"README.md": "ours\n", "fine.py": "1\n"})
        tip = place.upstream("README.md", "theirs\n")
        with pytest.raises(merging.MergeConflict) as refused:
            merging.push(card)
        assert refused.value.extra == {"files": ["README.md"]}
        assert place.at("main") == tip
        assert git(place.repository, "branch", "--list", "holdfast/*") == ""
        assert now_is(card).state == "review"

    @pytest.mark.parametrize("as_url", [False, True])
    def test_into_a_bare_repository_and_one_behind_a_url(self, place, as_url):
        bare = place.root / "bare.git"
        git(place.root, "clone", "-q", "--bare", str(place.repository), str(bare))
        address = bare.as_uri() if as_url else str(bare)
        Board.objects.filter(pk=place.board.pk).update(repository=address)
        place.board.refresh_from_db()
        card = place.worked({"app.py": "print(1)\n"})
        assert merged(card).strategy == "fast_forward"
        assert git(bare, "show", "main:app.py") == "print(1)"
        shown = git(
            bare, "log", "-1", "--format=%an|%s|%(trailers:key=Holdfast-Card,valueonly)", "main"
        )
        assert shown.split("|")[1:] == [f"{card.title} ({card.key})", card.key]
        assert git(bare, "rev-parse", f"holdfast/{card.key}") == git(bare, "rev-parse", "main")

    def test_after_a_conflict_the_next_attempt_starts_from_both_sides(self, place):
        card = place.worked({"README.md": "ours\n", "fine.py": "1\n"})
        old = recovery.head(card.pk, card.line)
        tip = place.upstream("README.md", "theirs\n")
        tip = place.upstream("new.py", "2\n")
        joined = merging.join(card)
        assert (joined.into, joined.files) == ("main", ("README.md",))
        point = merging.send_back(joined, "user:ann")
        card = now_is(card)
        assert (card.state, point.parent_id, point.number) == ("waiting", old.pk, old.number + 1)
        assert recovery.intact(point)
        told = Discovery.objects.get(card_id=card.pk)
        assert told.title == f"{card.key} and main both changed README.md"
        assert "Bring it up to date with main" in card.messages.get().text
        attempt = claimed(card)
        assert attempt.resumed_from == point.number
        with pytest.raises(merging.MergeConflict, match=r"still marked in README\.md"):
            merging._check_resolved(merging.work_of(card))
        place.changes(attempt, {"README.md": "both\n"}, "Resolved it.")
        tree = max(
            place.root.glob(f"workspaces/{card.key}/*/tree"), key=lambda p: p.stat().st_ctime
        )
        assert git(tree, "rev-parse", "HEAD") == tip
        assert {p.name for p in tree.glob("*.py")} == {"fine.py", "new.py"}
        leases.complete(attempt.pk, "Both are there.")
        # The difference is the one from the new base, and now it goes in.
        work = merging.work_of(now_is(card))
        assert work.repository_commit == tip
        assert sorted(f.path for f in work.store.changes(work.base, work.commit)) == [
            "README.md",
            "fine.py",
        ]
        assert merged(now_is(card)).strategy == "fast_forward"
        assert place.show("main:README.md") == "both"

    def test_the_joined_files_mark_what_both_sides_changed(self, place):
        card = place.worked({"README.md": "ours\n"})
        place.upstream("README.md", "theirs\n")
        joined = merging.join(card)
        shown = joined.work.store.run("cat-file", "blob", f"{joined.snapshot.commit}:README.md")
        assert shown.decode().splitlines() == [
            "<<<<<<< tags/main",
            "theirs",
            "=======",
            "ours",
            f">>>>>>> tags/{card.key}",
        ]
        with pytest.raises(Stale):
            place.changes(claimed_again(card), {"x": "1"})
            merging.send_back(joined, "user:ann")

    def test_uncommitted_changes_of_a_person_are_never_touched(self, place):
        card = place.worked({"README.md": "ours\n"})
        (place.repository / "README.md").write_text("half a thought\n")
        tip = place.at("main")
        with pytest.raises(merging.MergeFailed, match="uncommitted changes"):
            merging.push(card)
        assert (place.repository / "README.md").read_text() == "half a thought\n"
        assert place.at("main") == tip
        assert git(place.repository, "branch", "--list", "holdfast/*") == ""

    def test_the_branch_alone(self, place):
        tip = place.at("main")
        card = place.worked({"app.py": "print(1)\n"})
        merge = merging.record(merging.push(card, strategy="branch"), "user:ann", approve=False)
        assert (merge.into, place.at("main")) == ("", tip)
        assert place.show(f"holdfast/{card.key}:app.py") == "print(1)"
        assert now_is(card).state == "review"

    def test_another_branch_and_one_that_is_not_there(self, place):
        git(place.repository, "branch", "release")
        card = place.worked({"app.py": "print(1)\n"})
        assert merged(card, into="release").into == "release"
        assert place.show("release:app.py") == "print(1)"
        with pytest.raises(Invalid, match="no branch elsewhere"):
            merging.push(now_is(card), into="elsewhere")
        for odd in ("a..b", "-x", "a b", "x\ny", "a.lock"):
            with pytest.raises(Invalid):
                merging.push(now_is(card), into=odd)

    def test_it_may_be_said_twice(self, place):
        card = place.worked({"app.py": "print(1)\n"})
        place.upstream("other.py", "2\n")
        pushed = merging.push(card)  # and then the process was killed
        again = merged(card)
        assert place.at("main") == pushed.commit
        assert git(place.repository, "rev-list", "--count", "main") == "4"
        once_more = merged(now_is(card), strategy="squash")
        assert place.at("main") == pushed.commit
        assert now_is(card).state == "completed"
        assert again.branch == once_more.branch

    def test_a_large_file_that_snapshots_leave_out_stays(self, place, monkeypatch):
        (place.repository / "large.bin").write_bytes(b"x" * 4096)
        place.upstream("a.txt", "1\n")
        monkeypatch.setattr("checkpoints.workspaces.MAX_FILE_BYTES", 2048)
        card = place.worked({"app.py": "print(1)\n"})
        merged(card)
        assert place.show("main:app.py") == "print(1)"
        assert len(place.show("main:large.bin")) == 4096

    def test_a_repository_whose_history_was_rewritten(self, place):
        card = place.worked({"app.py": "print(1)\n"})
        git(place.repository, "commit", "-q", "--amend", "-m", "Begin otherwise")
        git(place.repository, "reflog", "expire", "--expire=now", "--all")
        git(place.repository, "gc", "-q", "--prune=now")
        tip = place.at("main")
        merged(card)
        assert place.at("main^") == tip
        assert place.show("main:app.py") == "print(1)"

    def test_a_repository_without_a_commit(self, place, tmp_path):
        place.repository = tmp_path / "empty"
        place.repository.mkdir()
        git(place.repository, "init", "-q", "--bare")
        place.board = make_board(repository=str(place.repository))
        card = place.worked({"app.py": "print(1)\n"})
        assert merged(card).into == "main"
        assert place.show("main:app.py") == "print(1)"

    def test_only_what_was_looked_at(self, place):
        card = place.worked({"app.py": "print(1)\n"})
        cards.reject(card.pk, "user:ann", "Say two.")
        attempt = claimed(now_is(card))
        place.changes(attempt, {"app.py": "print(2)\n"})
        with pytest.raises(TransitionRefused, match="running"):
            merging.push(now_is(card))
        leases.complete(attempt.pk, "Two.")
        with pytest.raises(Stale):
            merging.push(now_is(card), checkpoint=1)
        merged(now_is(card), checkpoint=2)
        assert place.show("main:app.py") == "print(2)"

    def test_nothing_to_merge_is_said(self, place):
        card = make_card(place.board, review_required=True)
        leases.complete(claimed(card).pk, "Thought about it.")
        with pytest.raises(TransitionRefused, match="has no files"):
            merging.push(now_is(card))

    def test_a_repository_that_is_gone_or_misnamed(self, place):
        card = place.worked({"app.py": "print(1)\n"})
        for odd, words in (("/nowhere/at/all", "did not take it"), ("elsewhere", "neither")):
            card.board.repository = odd
            with pytest.raises(merging.MergeFailed, match=words):
                merging.push(card)
        card.board.repository = ""
        with pytest.raises(TransitionRefused, match="patch"):
            merging.push(card)

    def test_no_hook_and_no_command_of_the_repository_runs(self, place, tmp_path):
        ran = tmp_path / "ran"
        for hook in ("pre-receive", "update", "post-receive", "post-update", "push-to-checkout"):
            path = place.repository / ".git/hooks" / hook
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
            path.chmod(0o755)
        card = place.worked({"app.py": "1\n", ".gitattributes": "* filter=evil merge=evil\n"})
        place.upstream("other.py", "2\n")
        merged(card)
        assert not ran.exists()

    def test_somebody_else_pushes_in_between(self, place, monkeypatch):
        card = place.worked({"app.py": "print(1)\n"})
        made, told = merging._made, []

        def overtaken(*args):
            pushed = made(*args)
            if not told:
                told.append(place.upstream("other.py", "2\n"))
            return pushed

        monkeypatch.setattr(merging, "_made", overtaken)
        merged(card)
        assert place.show("main:app.py") == "print(1)"
        assert place.show("main:other.py") == "2"


def test_the_patch_gives_the_same_files(place, tmp_path):
    (place.repository / "image.bin").write_bytes(bytes(range(256)))
    place.upstream("old.txt", "old\n")
    card = place.worked({"app.py": "print('ü')\n", "old.txt": None, "README.md": "bye\n"})
    text = merging.patch(merging.work_of(card))
    elsewhere = tmp_path / "elsewhere"
    subprocess.run(["git", "clone", "-q", str(place.repository), str(elsewhere)], check=True)
    (tmp_path / "it.patch").write_bytes(text)
    git(elsewhere, "am", "-q", str(tmp_path / "it.patch"))
    merged(card)
    assert git(elsewhere, "rev-parse", "HEAD^{tree}") == place.at("main^{tree}")
    assert git(elsewhere, "log", "-1", "--format=%an").startswith("ada")


class TestDoor:
    @pytest.fixture
    def ann(self, place) -> Client:
        from boards.models import Membership
        from kernel.access import Role

        client = Client()
        self.user = make_user()
        Membership.objects.create(board=place.board, user=self.user, role=Role.MEMBER)
        client.force_login(self.user)
        return client

    def post(self, client: Client, card: Card, body: dict, **headers: str):
        return client.post(
            f"/api/v1/cards/{card.key}/merge",
            body,
            content_type="application/json",
            headers=headers,
        )

    def test_a_person_merges_and_the_card_is_completed(self, place, ann):
        card = place.worked({"app.py": "print(1)\n"})
        first = self.post(ann, card, {"checkpoint": 1}, **{"Idempotency-Key": "one"})
        assert first.status_code == 200, first.content
        body = first.json()
        assert (body["into"], body["commit"]) == ("main", place.at("main"))
        assert body["card"]["state"] == "completed"
        tip = place.upstream("other.py", "2\n")
        again = self.post(ann, card, {"checkpoint": 1}, **{"Idempotency-Key": "one"})
        assert again.headers["Idempotent-Replay"] == "true"
        assert again.json() == body
        other = self.post(ann, card, {"strategy": "squash"}, **{"Idempotency-Key": "one"})
        assert other.status_code == 422
        assert other.json()["code"] == "idempotency_key_reused"
        assert place.at("main") == tip

    def test_a_conflict_over_the_door(self, place, ann):
        card = place.worked({"README.md": "ours\n"})
        place.upstream("README.md", "theirs\n")
        answer = self.post(ann, card, {})
        assert (answer.status_code, answer.json()["code"]) == (409, "merge_conflict")
        assert answer.json()["files"] == ["README.md"]
        asked = {"on_conflict": "send_back", "reason": "Keep both."}
        answer = self.post(ann, card, asked)
        assert answer.status_code == 202
        told = answer.json()
        assert (told["files"], told["into"], told["card"]["state"]) == (
            ["README.md"],
            "main",
            "waiting",
        )
        assert now_is(card).messages.get().text == "Keep both."

    def test_what_is_refused(self, place, ann):
        card = place.worked({"app.py": "print(1)\n"})
        for body, code in (
            ({"strategy": "rebase"}, 422),
            ({"into": "a..b"}, 422),
            ({"checkpoint": 7}, 412),
            ({"checkpoint": 0}, 422),
            ({"force": True}, 422),
        ):
            assert self.post(ann, card, body).status_code == code, body
        assert Merge.objects.count() == 0

    def test_the_patch_is_a_download(self, place, ann):
        card = place.worked({"app.py": "print(1)\n"})
        answer = ann.get(f"/api/v1/cards/{card.key}/patch")
        assert answer.status_code == 200
        assert b"+print(1)" in answer.content
        assert f"{card.key}.patch" in answer.headers["Content-Disposition"]


@pytest.mark.django_db(transaction=True)
class TestStart:
    """A card that builds on others begins with what they ended with."""

    def begun(self, place, card: Card) -> Workspace:
        start = merging.start_of(now_is(card))
        return Workspace.prepare(
            place.root / "workspaces",
            store_of(place.board.pk),
            card_key=card.key,
            attempt_number=1,
            repository=str(place.repository),
            resume_commit=start.commit,
        )

    def test_from_several_parents_joined_on_the_newest_state(self, place):
        one = place.worked({"one.py": "1\n"})
        two = place.worked({"two.py": "2\n", "README.md": "hello\nthere\n"})
        tip = place.upstream("late.py", "3\n")
        child = make_card(place.board, depends_on=[one, two])
        workspace = self.begun(place, child)
        assert {p.name for p in workspace.tree.glob("*.py")} == {"one.py", "two.py", "late.py"}
        assert git(workspace.tree, "rev-parse", "HEAD") == tip
        (workspace.tree / "one.py").write_text("one\n")
        taken = workspace.snapshot("Went on.")
        assert taken.changed_files == 1  # its own
        workspace.close()
        # The next attempt finds the same start, and takes the folder over.
        again = self.begun(place, child)
        assert again.folder == workspace.folder
        again.close()

    def test_its_own_changes_alone_are_merged_after_its_parent(self, place):
        parent = place.worked({"app.py": "1\n"})
        child = make_card(place.board, review_required=True, depends_on=[parent])
        workspace = self.begun(place, child)
        merged(parent)
        (workspace.tree / "app.py").write_text("2\n")
        taken = workspace.snapshot("Went on.")
        workspace.close()
        attempt = claimed(child)
        make_checkpoint(attempt, summary="Went on.", workspace=taken.as_json())
        leases.complete(attempt.pk, "Done.")
        assert merged(now_is(child)).strategy == "fast_forward"
        assert place.show("main:app.py") == "2"
        assert git(place.repository, "diff", "--name-only", "main~1", "main") == "app.py"

    def test_parents_in_conflict_are_named(self, place):
        one, two = place.worked({"a.py": "1\n"}), place.worked({"a.py": "2\n"})
        child = make_card(place.board, depends_on=[one, two])
        with pytest.raises(WorkspaceError, match=f"{one.key} and {two.key}.* a.py") as refused:
            merging.start_of(child)
        assert not refused.value.retryable

    def test_parents_without_files_leave_it_where_the_repository_is(self, place):
        child = make_card(place.board, depends_on=[make_card(place.board)])
        assert merging.start_of(child) is None


@pytest.mark.django_db(transaction=True)
def test_two_cards_merged_at_once_are_both_there(place):
    both = [place.worked({f"{n}.py": f"{n}\n"}) for n in range(2)]
    faults: list[Exception] = []

    def go(card: Card) -> None:
        try:
            merging.push(card)
        except Exception as error:  # shown below
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=go, args=(card,)) for card in both]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not faults
    assert [place.show(f"main:{n}.py") for n in range(2)] == ["0", "1"]


class TestLeftOut:
    """What a checkpoint holds and no branch wants."""

    def reporting(self, place: Place, files: dict[str, str | None], report: str, **how) -> Card:
        """Return a card in review whose step told where it wrote a test report."""
        card = make_card(place.board, review_required=True)
        attempt = claimed(card)
        make_step(attempt, result={"junit": report})
        place.changes(attempt, files, **how)
        leases.complete(attempt.pk, "Done.")
        return now_is(card)

    def test_a_test_report_stays_in_the_checkpoint(self, place):
        card = self.reporting(place, {"a.py": "1\n", "out/report.xml": "<x/>"}, "out/report.xml")
        work = merging.work_of(card)
        assert b"out/report.xml" in work.store.added(work.base, work.commit)
        assert work.left_out == ("out/report.xml",)
        assert b"report.xml" not in merging.patch(work)
        ann = Client()
        ann.force_login(make_user("ann", is_superuser=True))
        page = ann.get(f"/cards/{card.key}").content.decode()
        assert "out/report.xml" in page.partition('id="approve"')[2].partition("</dialog>")[0]
        merged(card)
        assert git(place.repository, "diff", "--name-only", "main~1", "main") == "a.py"

    def test_one_that_the_repository_has_is_merged_like_any_file(self, place):
        place.upstream("report.xml", "<old/>\n")
        card = self.reporting(place, {"report.xml": "<new/>\n"}, "report.xml")
        merged(card)
        assert place.show("main:report.xml") == "<new/>"

    def test_ignored_files_that_the_board_keeps_go_nowhere(self, place):
        place.upstream(".gitignore", "cache/\n")
        files: dict[str, str | None] = {
            "a.py": "1\n",
            "cache/deep/x": "1\n",
            "build/.gitignore": "*.o\n",
            "build/b.o": "1\n",
            "build/b.c": "1\n",
        }
        card = self.reporting(place, files, "none", keep_ignored=("**/cache", "build"))
        work = merging.work_of(card)
        assert work.store.added(work.base, work.commit) == {name.encode() for name in files}
        assert work.left_out == ("build/b.o", "cache/deep/x")
        merged(card)
        changed = git(place.repository, "diff", "--name-only", "main~1", "main")
        assert changed.split() == ["a.py", "build/.gitignore", "build/b.c"]

    def test_a_card_that_builds_on_it_makes_its_own(self, place):
        Board.objects.filter(pk=place.board.pk).update(defaults={"start_from_parents": True})
        parent = self.reporting(place, {"a.py": "1\n", "report.xml": "<x/>"}, "report.xml")
        merged(parent)
        child = make_card(place.board, review_required=True)
        child.dependencies.create(depends_on=parent)
        started = merging.start_of(child)
        assert started is not None
        store = store_of(place.board.pk)
        listed = store.run("ls-tree", "-r", "--name-only", started.commit).split()
        assert b"a.py" in listed
        assert b"report.xml" not in listed


class TestSecrets:
    """Files that hold a secret of the board go nowhere unless a person says so."""

    KEY = "sk-live-0123456789abcdef"

    @pytest.fixture
    def sealed(self, place) -> Place:
        keeping.put(place.board.pk, "user:ann", "DEPLOY_KEY", self.KEY)
        return place

    def test_neither_merged_nor_taken_along_by_accident(self, sealed):
        card = sealed.worked({"src/config.py": f"KEY = '{self.KEY}'\n", "fine.py": "1\n"})
        began = sealed.at("main")
        ann = Client()
        ann.force_login(make_user("ann", is_superuser=True))
        page = ann.get(f"/cards/{card.key}").content.decode()
        assert "src/config.py holds the secret DEPLOY_KEY" in page
        assert self.KEY not in page.partition('id="card-tab"')[0]
        drawer = ann.get(f"/cards/{card.key}/drawer").content.decode()
        assert "src/config.py holds the secret DEPLOY_KEY" in drawer
        assert "data-approve" not in drawer
        at = f"/api/v1/cards/{card.key}"
        for answer in (
            ann.post(f"{at}/merge", {}, content_type="application/json", HTTP_IDEMPOTENCY_KEY="a"),
            ann.get(f"{at}/patch"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "secret_in_files")
            assert answer.json()["files"] == [{"path": "src/config.py", "secret": "DEPLOY_KEY"}]
        assert sealed.at("main") == began
        assert now_is(card).state == Card.State.REVIEW
        assert self.KEY.encode() in ann.get(f"{at}/patch?with_secrets=true").content
        told = ann.post(
            f"{at}/merge",
            {"with_secrets": True},
            content_type="application/json",
            HTTP_IDEMPOTENCY_KEY="b",
        )
        assert told.status_code == 200
        assert self.KEY in sealed.show("main:src/config.py")

    def test_what_was_there_before_is_nobodys_doing(self, sealed):
        sealed.upstream("old.py", f"'{self.KEY}'\n")
        sealed.upstream("moved.py", "x\n")
        card = sealed.worked({"old.py": f"'{self.KEY}'\nprint()\n"})
        assert merged(card).commit

    def test_once_it_is_taken_out_nothing_holds_it_back(self, sealed):
        card = sealed.worked({"a.py": self.KEY})
        with pytest.raises(spilling.SecretInFiles):
            merging.push(card)
        attempt = claimed_again(card)
        sealed.changes(attempt, {"a.py": "os.environ['DEPLOY_KEY']\n"})
        leases.complete(attempt.pk, "Taken out.")
        assert merged(now_is(card)).commit
        assert self.KEY not in git(sealed.repository, "log", "-p", "--all")

    def test_a_secret_that_is_set_later_counts_as_well(self, sealed):
        card = sealed.worked({"a.py": "another-value-of-it"})
        work = merging.work_of(card)
        merging.see_what_it_holds(work)
        keeping.put(sealed.board.pk, "user:ann", "OTHER", "another-value-of-it")
        with pytest.raises(spilling.SecretInFiles, match=r"a\.py holds the secret OTHER"):
            merging.see_what_it_holds(work)

    def test_a_parents_files_go_out_with_the_card_that_builds_on_it(self, sealed):
        Board.objects.filter(pk=sealed.board.pk).update(defaults={"start_from_parents": True})
        parent = sealed.worked({"a.py": self.KEY})
        cards.approve(parent.pk, "user:ann")
        child = make_card(sealed.board, review_required=True)
        child.dependencies.create(depends_on=parent)
        started = merging.start_of(child)
        assert started is not None
        attempt = claimed(child)
        store = store_of(sealed.board.pk)
        taken = store.snapshot_of(started.commit).as_json()
        make_checkpoint(attempt, summary="s", workspace=taken)
        leases.complete(attempt.pk, "Done.")
        with pytest.raises(spilling.SecretInFiles):
            merging.push(now_is(child))

    def test_large_files_links_and_removed_ones_are_no_trouble(self, sealed, monkeypatch):
        monkeypatch.setattr(secretsearch, "MAX_FILE_BYTES", 100)
        sealed.upstream("gone.py", f"'{self.KEY}'\n")
        card = sealed.worked({"large.txt": "x" * 100 + self.KEY, "gone.py": None, "b": "1"})
        assert merged(card).commit
