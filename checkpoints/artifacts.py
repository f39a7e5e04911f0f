"""Files by content: stored once, verified by their digest, readable where they are linked."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings

from checkpoints.models import Artifact, ArtifactLink
from kernel.access import Principal, hidden
from kernel.errors import Invalid
from kernel.tx import transition

_CHUNK_BYTES = 1 << 20


def store(
    chunks: Iterable[bytes],
    *,
    content_type: str = "application/octet-stream",
    expected_sha256: str | None = None,
    principal: str,
) -> tuple[Artifact, bool]:
    """Return the artifact with this content, durable on disk, and whether it is new.

    Raises Invalid when the content does not have ``expected_sha256``; nothing is kept then.
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
        _publish(Path(name), path_of(sha))
    finally:
        Path(name).unlink(missing_ok=True)
    with transition():
        artifact, created = Artifact.objects.get_or_create(
            sha256=sha, defaults={"size_bytes": size, "content_type": content_type[:200]}
        )
        mine = ArtifactLink.objects.filter(artifact=artifact, principal=principal, board=None)
        if not mine.exists():  # two uploads at once may make two, which does no harm
            ArtifactLink.objects.create(artifact=artifact, principal=principal)
    return artifact, created


def store_file(path_or_file: BinaryIO, *, content_type: str, principal: str) -> Artifact:
    """Return the artifact with an open file's content."""
    chunks = iter(lambda: path_or_file.read(_CHUNK_BYTES), b"")
    return store(chunks, content_type=content_type, principal=principal)[0]


def link(
    artifacts: Sequence[Mapping[str, Any]], *, board_id: UUID, card_id: UUID, attempt_id: UUID
) -> None:
    """Make the named artifacts readable on the card's board. Raises Invalid for unknown ones."""
    wanted = {a["sha256"] for a in artifacts}
    known = set(Artifact.objects.filter(pk__in=wanted).values_list("pk", flat=True))
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
