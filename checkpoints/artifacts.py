"""Files by content: stored once, verified by their digest, readable where they are linked."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from checkpoints.models import Artifact, ArtifactLink
from goals.models import Evidence
from kernel.access import Principal, hidden
from kernel.errors import Invalid
from kernel.tx import transition

_CHUNK_BYTES = 1 << 20
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Upload:
    """Content that has arrived whole, durable on disk, and is nobody's yet."""

    path: Path
    sha256: str
    size_bytes: int


@contextlib.contextmanager
def received(chunks: Iterable[bytes], *, expected_sha256: str | None = None) -> Iterator[Upload]:
    """Give the content as an upload for ``keep``; what was not kept is gone afterwards.

    Raises Invalid when it does not have ``expected_sha256``.
    """
    root = _root()
    digest, size = hashlib.sha256(), 0
    fd, name = tempfile.mkstemp(dir=root / "incoming")
    try:
        with os.fdopen(fd, "wb") as out:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        sha = digest.hexdigest()
        if expected_sha256 is not None and expected_sha256 != sha:
            raise Invalid.field("Digest", f"does not match the content, which is sha-256 {sha}.")
        # From the file's name to its row nobody may think it unneeded, see ``collect``.
        with _shard(sha, fcntl.LOCK_SH):
            yield Upload(Path(name), sha, size)
    finally:
        Path(name).unlink(missing_ok=True)


def keep(upload: Upload, *, content_type: str, principal: str) -> tuple[Artifact, bool]:
    """Return the artifact with the uploaded content, and whether the principal has not uploaded
    it before; what others uploaded is not told. May be repeated."""
    _publish(upload.path, path_of(upload.sha256))
    with transition():
        artifact, _ = Artifact.objects.get_or_create(
            sha256=upload.sha256,
            defaults={"size_bytes": upload.size_bytes, "content_type": content_type[:200]},
        )
        mine = ArtifactLink.objects.filter(artifact=artifact, principal=principal, board=None)
        new = not mine.update(at=timezone.now())
        if new:  # two uploads at once may make two: no harm
            ArtifactLink.objects.create(artifact=artifact, principal=principal)
    return artifact, new


def store(
    chunks: Iterable[bytes],
    *,
    content_type: str = "application/octet-stream",
    expected_sha256: str | None = None,
    principal: str,
) -> tuple[Artifact, bool]:
    """Return the artifact with this content, durable on disk, and whether it is new as ``keep``
    has it.

    Raises Invalid when the content does not have ``expected_sha256``; nothing is kept then.
    """
    with received(chunks, expected_sha256=expected_sha256) as upload:
        return keep(upload, content_type=content_type, principal=principal)


def store_file(path_or_file: BinaryIO, *, content_type: str, principal: str) -> Artifact:
    """Return the artifact with an open file's content."""
    chunks = iter(lambda: path_or_file.read(_CHUNK_BYTES), b"")
    return store(chunks, content_type=content_type, principal=principal)[0]


def link(
    artifacts: Sequence[Mapping[str, Any]], *, board_id: UUID, card_id: UUID, attempt_id: UUID
) -> None:
    """Make the named artifacts readable on the card's board. Raises Invalid for unknown ones."""
    wanted = {a["sha256"] for a in artifacts}
    # Locked, so that none of them is collected before it is linked.
    there = Artifact.objects.filter(pk__in=wanted).order_by("pk").select_for_update(no_key=True)
    known = set(there.values_list("pk", flat=True))
    for n, artifact in enumerate(artifacts):
        if artifact["sha256"] not in known:
            raise Invalid.field(f"artifacts[{n}].sha256", "is no stored artifact; upload it first.")
    ArtifactLink.objects.bulk_create(
        ArtifactLink(
            artifact_id=a["sha256"],
            board_id=board_id,
            card_id=card_id,
            attempt_id=attempt_id,
            name=a["name"],
        )
        for a in artifacts
    )


def readable(sha256: str, principal: Principal) -> Artifact:
    """Return the artifact if the principal uploaded it or sees a board that holds it."""
    artifact = Artifact.objects.filter(pk=sha256).first()
    if artifact is not None:
        for who, board_id in artifact.links.values_list("principal", "board_id"):
            if who == principal.key or (board_id and principal.role_on(board_id) is not None):
                return artifact
    raise hidden("artifact")


def path_of(sha256: str) -> Path:
    """Return where the content with this digest is kept."""
    return _root() / sha256[:2] / sha256[2:4] / sha256


def sweep_incoming(older_than_seconds: float) -> int:
    """Remove what cut-off uploads left behind. Returns how many."""
    removed = 0
    for path in (_root() / "incoming").iterdir():
        if path.stat().st_mtime < time.time() - older_than_seconds:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def shards() -> Iterator[str]:
    """Yield the parts that the artifacts are collected in: the first digits of their digests."""
    return (f"{n:02x}" for n in range(256))


def collect(shard: str, unused_since: datetime) -> int:
    """Remove the shard's artifacts that nothing has referred to since; return their bytes.

    An upload at the same time is waited out or let by: from its file to its row it holds the
    shard. Whatever moment this is killed at, a row has its file; a file without a row is
    removed by a later call.
    """
    freed = 0
    with contextlib.suppress(BlockingIOError), _shard(shard, fcntl.LOCK_EX | fcntl.LOCK_NB):
        for artifact in _unused(unused_since).filter(pk__startswith=shard)[:_AT_ONCE]:
            path = path_of(artifact.pk)
            if _forget(artifact, unused_since):
                path.unlink(missing_ok=True)
                freed += artifact.size_bytes
        freed += _remove_strays(shard, unused_since.timestamp())
    return freed


def _unused(since: datetime) -> QuerySet[Artifact]:
    """The artifacts on no card, of no evidence, that were not uploaded since either."""
    links = ArtifactLink.objects.filter(artifact=OuterRef("pk"))
    needed = links.filter(Q(board__isnull=False) | Q(at__gte=since))
    shown = Evidence.objects.filter(artifact=OuterRef("pk"))
    return Artifact.objects.filter(~Exists(needed), ~Exists(shown), at__lt=since)


def _forget(artifact: Artifact, since: datetime) -> bool:
    """Remove the artifact's row if it is still unused; return whether it was."""
    with transition():
        # Alone and before the question: PostgreSQL asks anew what it reads after the lock.
        list(Artifact.objects.filter(pk=artifact.pk).select_for_update().values_list("pk"))
        if not _unused(since).filter(pk=artifact.pk).exists():
            return False
        artifact.delete()
    return True


def _remove_strays(shard: str, before: float) -> int:
    """Remove files whose row was never made, or is gone; return their bytes."""
    files = [path for path in (_root() / shard).glob("*/*") if path.stat().st_mtime < before]
    rows = Artifact.objects.filter(pk__startswith=shard)
    known = set(rows.values_list("pk", flat=True)) if files else set()
    freed = 0
    for path in files:
        if path.name not in known:
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
    return freed


@contextlib.contextmanager
def _shard(sha: str, how: int) -> Iterator[None]:
    """Hold the shard of a digest: shared while storing, alone while collecting."""
    folder = Path(settings.DATA_DIR) / "artifact-locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / sha[:2], "w") as lock:
        fcntl.flock(lock, how)
        yield


def _root() -> Path:
    root = Path(settings.DATA_DIR) / "artifacts"
    (root / "incoming").mkdir(parents=True, exist_ok=True)
    return root


def _publish(temporary: Path, final: Path) -> None:
    """Give the finished file its name, atomically and durably; a damaged twin is replaced."""
    if final.exists() and final.stat().st_size == temporary.stat().st_size:
        return
    folders = [final.parent, final.parent.parent, final.parent.parent.parent]
    changed = [f for f, inner in zip(folders[1:], folders, strict=False) if not inner.exists()]
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, final)
    for folder in (final.parent, *changed):
        _sync(folder)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
