from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path

import pytest

from checkpoints import artifacts
from checkpoints.models import Artifact, ArtifactLink
from kernel.access import Principal, Role
from kernel.errors import Invalid, NotFound
from tests.factories import claimed, make_checkpoint

pytestmark = pytest.mark.django_db
CONTENT = b"the log of a build\n" * 100
SHA = hashlib.sha256(CONTENT).hexdigest()
ADA = Principal(kind="token", id="1", name="ada")
EVE = Principal(kind="token", id="2", name="eve")


@pytest.fixture(autouse=True)
def _folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path


def store(content: bytes = CONTENT, **options) -> Artifact:
    return artifacts.store([content], principal=ADA.key, **options)[0]


def incoming(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "artifacts" / "incoming").iterdir())


def test_content_is_kept_under_its_digest(tmp_path):
    artifact, new = artifacts.store(iter([CONTENT[:7], CONTENT[7:]]), principal=ADA.key)
    assert (artifact.pk, artifact.size_bytes, new) == (SHA, len(CONTENT), True)
    assert artifacts.path_of(SHA).read_bytes() == CONTENT
    assert incoming(tmp_path) == []


def test_the_same_content_is_kept_once(tmp_path):
    first = store(content_type="text/plain")
    again, new = artifacts.store([CONTENT], content_type="x/y", principal=ADA.key)
    assert (again, new, again.content_type) == (first, False, "text/plain")
    assert len([p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()]) == 1


def test_two_uploads_at_once_do_no_harm_to_a_third():
    artifact = store()
    ArtifactLink.objects.create(artifact=artifact, principal=ADA.key)
    assert store() == artifact


def test_content_that_is_not_what_was_announced_is_not_kept(tmp_path):
    with pytest.raises(Invalid):
        store(expected_sha256="0" * 64)
    assert not Artifact.objects.exists()
    assert incoming(tmp_path) == []
    assert store(expected_sha256=SHA).pk == SHA


def test_an_upload_cut_off_leaves_nothing(tmp_path):
    def cut():
        yield CONTENT[:10]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        artifacts.store(cut(), principal=ADA.key)
    assert not Artifact.objects.exists()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_damaged_file_is_mended_by_the_next_upload():
    store()
    artifacts.path_of(SHA).write_bytes(CONTENT[:10])
    store()
    assert artifacts.path_of(SHA).read_bytes() == CONTENT


def test_everything_that_names_a_new_file_is_on_disk_before_the_answer(monkeypatch, tmp_path):
    synced = []
    real = os.fsync

    def fsync(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    store()
    root = tmp_path / "artifacts"
    assert synced[0].startswith(str(root / "incoming"))
    assert synced[1:] == [str(p) for p in (root / SHA[:2] / SHA[2:4], root / SHA[:2], root)]


def test_an_artifact_is_read_by_whoever_stored_it():
    store()
    assert artifacts.readable(SHA, ADA).pk == SHA
    for sha in (SHA, "0" * 64):
        principal = EVE if sha == SHA else ADA
        with pytest.raises(NotFound):
            artifacts.readable(sha, principal)


def test_an_artifact_is_read_by_whoever_sees_a_board_that_holds_it():
    attempt = claimed()
    store()
    make_checkpoint(attempt, artifacts=[{"name": "build.log", "sha256": SHA}])
    viewer = Principal(kind="user", id="9", name="vic", boards={attempt.board_id: Role.VIEWER})
    assert artifacts.readable(SHA, viewer).pk == SHA
    link = ArtifactLink.objects.exclude(card=None).get()
    assert (link.name, link.card_id, link.attempt_id) == (
        "build.log",
        attempt.card_id,
        attempt.pk,
    )
    with pytest.raises(NotFound):
        artifacts.readable(SHA, EVE)


def test_a_checkpoint_names_only_what_is_stored():
    attempt = claimed()
    store()
    known, unknown = {"name": "a", "sha256": SHA}, {"name": "b", "sha256": "0" * 64}
    with pytest.raises(Invalid) as refusal:
        make_checkpoint(attempt, artifacts=[known, unknown])
    assert list(refusal.value.errors) == ["artifacts[1].sha256"]


def test_an_open_file_is_stored_in_pieces():
    big = os.urandom(3 * 1024 * 1024)
    artifact = artifacts.store_file(
        io.BytesIO(big), content_type="application/x-wheel", principal=ADA.key
    )
    assert artifact.size_bytes == len(big)


def test_what_cut_off_uploads_left_behind_is_swept(tmp_path):
    store()
    left = tmp_path / "artifacts" / "incoming" / "tmp1"
    left.write_bytes(b"x")
    assert artifacts.sweep_incoming(60) == 0
    os.utime(left, (time.time() - 61,) * 2)
    assert artifacts.sweep_incoming(60) == 1
    assert artifacts.path_of(SHA).exists()
