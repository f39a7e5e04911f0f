"""The ledger of an attempt on another host: the server's API. See ``workers.ledger``."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, TypeVar

from checkpoints import transport
from checkpoints.git import GitFailed
from checkpoints.snapshots import Snapshot, SnapshotStore
from checkpoints.workspaces import Workspace, WorkspaceError
from holdfast import Client, errors
from holdfast.protocol import segment
from kernel.errors import BudgetExceeded, EvidenceMissing, Invalid, LeaseLost, StepConflict
from workers.executors.contract import Ask, Refused, Usage
from workers.ledger import Begun, Criterion, Mandate, Row, Said, Score, Start
from workers.remote.patience import patiently
from workers.terms import Host, Terms

log = logging.getLogger(__name__)

T = TypeVar("T")

BEAT_SECONDS = 5.0
KEYS_AT_ONCE = 20
PIECES_AT_ONCE = 200
#: Steps that programs record by themselves, and those among them that say how it ended.
AGENT_KEYS, SAYS = "@agent/", "says"


@dataclass(frozen=True, slots=True)
class Numbered:
    """An attempt, by its number; 0 where only another endpoint would tell."""

    number: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A step as the API shows it."""

    key: str
    status: str
    in_doubt: bool
    input: Any
    result: Any
    error: str
    attempt: Numbered


class Api:
    """One attempt's record behind the API. ``folder`` keeps the snapshots of this host."""

    away: tuple[type[Exception], ...] = (errors.Unreachable,)
    beat_seconds = BEAT_SECONDS
    last_resort = False

    def __init__(self, client: Client, granted: Mapping[str, Any], host: Host, folder: Path):
        self._client = client
        card, attempt, lease = granted["card"], granted["attempt"], granted["lease"]
        self._path = f"/attempts/{attempt['id']}"
        self._lease = {"Lease-Token": lease["token"]}
        self._handing_over = False
        self.resting: frozenset[str] = frozenset()  # steps that are not to be begun here for now
        self.drained = False  # the worker is, by whoever operates its boards
        told = self._get("/terms")
        self.mandate = Mandate(
            attempt=attempt["id"],
            number=attempt["number"],
            line=attempt["line"],
            lease_seconds=int(lease["ttl_seconds"]),
            program_token=told["program_token"],
            card=card["key"],
            card_id=card["id"],
            title=card["title"],
            labels=tuple(card["labels"]),
            workflow=card["workflow"],
            inputs=card["inputs"] or {},
            criteria=_criteria(told["criteria"]),
            score=told["score"],
        )
        self.terms = Terms(
            board=told["board"],
            repository=told["repository"],
            commands=told["commands"],
            network=told["network"],
            memory_mb=told["memory_mb"],
            processes=told["processes"],
            output_mb=told["output_mb"],
            keep_ignored=tuple(told.get("keep_ignored") or ()),
            secrets=told.get("secrets") or {},
            closed=tuple(told.get("closed") or ()),
            withheld=tuple(told.get("withheld") or ()),
        )
        self.host = host.knowing(lease["token"], most=told["max_artifact_bytes"])
        self.board_id = str(card["board"])
        self.unfit = False  # this host can't do the card, and handed it over for that
        self.lacks = ""  # what it lacked, if that can be said
        self._store = SnapshotStore(folder / "snapshots" / f"{self.board_id}.git")
        self._there: set[str] = set()  # snapshots that the server has
        self._sent_tree = ""

    def patiently(self, call: Callable[[], T], seconds: float) -> T:
        return patiently(call, seconds)

    def rest(self) -> None:
        """Nothing: connections are shared by all threads."""

    # The lease.

    def renew(self, note: str | None, percent: int | None) -> bool:
        said = {"note": note, "percent": percent}
        beat = self._post("/heartbeat", {k: v for k, v in said.items() if v is not None})
        self._handing_over = beat["directive"] == "pause"
        self.drained = beat["directive"] == "stop"
        self.resting = frozenset(beat.get("resting") or ())
        return self._handing_over

    def look(self) -> bool:
        return self._handing_over

    # Steps.

    def recorded(self, keys: Collection[str]) -> dict[str, Row]:
        wanted = list(dict.fromkeys(keys))
        found: list[Mapping[str, Any]] = []
        for n in range(0, len(wanted), KEYS_AT_ONCE):
            found += self._steps(key=wanted[n : n + KEYS_AT_ONCE])
        found.sort(key=lambda step: step["number"])
        return {step["key"]: self._row(step) for step in found}

    def below(self, prefix: str) -> list[Row]:
        return [self._row(s) for s in self._steps(below=prefix) if s["key"].startswith(prefix)]

    def failures(self, key: str) -> int:
        failed = [s["result"] for s in self._steps(key=key, tries=True) if s["status"] == "failed"]
        return sum(int(r.get("tries") or 1) if isinstance(r, dict) else 1 for r in failed)

    def began_at(self, key: str) -> datetime:
        first = next(iter(self._steps(key=key, tries=True)))
        return datetime.fromisoformat(first["started_at"])

    def begin(
        self,
        key: str,
        *,
        title: str = "",
        kind: str = "",
        input: Any = None,
        continues: bool = False,
    ) -> Begun:
        body = {"key": key, "title": title, "kind": kind, "input": input, "continues": continues}
        step = self._post("/steps", body)
        return Begun(self._row(step), bool(step.get("replay")))

    def finish(self, key: str, status: str, **said: Any) -> Row:
        return self._row(self._post(f"/steps/{segment(key)}/finish", _ended(status, said)))

    def record(self, key: str, status: str, **said: Any) -> Row:
        return self._row(self._post("/steps", {"key": key, **_ended(status, said)}))

    def skip(self, key: str, because: str, *, title: str = "", kind: str = "") -> Row:
        body = {"key": key, "status": "skipped", "error": because, "title": title, "kind": kind}
        return self._row(self._post("/steps", body))

    def _steps(self, **asked: Any) -> Iterator[dict[str, Any]]:
        cursor = None
        while True:
            page = self._get("/steps", limit=200, cursor=cursor, **asked)
            yield from page["results"]
            cursor = page["next"]
            if cursor is None:
                return

    def _row(self, step: Mapping[str, Any]) -> Recorded:
        own = self.mandate.number if step["attempt"] == self.mandate.attempt else 0
        return Recorded(
            step["key"],
            step["status"],
            step["in_doubt"],
            step["input"],
            step["result"],
            step["error"],
            Numbered(step.get("attempt_number", own)),
        )

    # What else is kept of the work.

    def log(self, pieces: Sequence[tuple[str, str, str]]) -> None:
        told = [
            {"step": step or None, "stream": stream, "text": text[n : n + 500_000]}
            for step, stream, text in pieces
            for n in range(0, max(1, len(text)), 500_000)
        ]
        for batch in _batches(told):
            self._post("/log", {"pieces": batch})

    def keep_file(self, file: IO[bytes], content_type: str) -> tuple[str, int]:
        return self._upload(file.read(), content_type)

    def propose(self, key: str, title: str, description: str) -> str:
        body = {"title": title, "description": description, "step": key}
        try:
            made = self._post("/cards", body)
        except (BudgetExceeded, Invalid) as error:
            raise Refused(error.detail) from None
        return str(made["key"] if "key" in made else f"an item of plan {made['number']}")

    # What people and programs say.

    def briefing(self, max_tokens: int) -> str:
        return str(self._post("/briefing", {"max_tokens": max_tokens})["markdown"])

    def last_word(self) -> dict[str, Any] | None:
        said = [
            step["result"]
            for step in self._steps(below=AGENT_KEYS, tries=True)
            if step["kind"] == SAYS and step["attempt"] == self.mandate.attempt
        ]
        return dict(said[-1]) if said and isinstance(said[-1], dict) else None

    def answer(
        self, key: str, question: str, options: Sequence[str], *, same_words: bool, **terms: Any
    ) -> Said:
        body = {"step": key, "question": question, "same_words": same_words}
        body |= {name: terms[name] for name in ("question_kind", "detail") if terms.get(name)}
        found = self._post("/answers", {**body, "options": list(options)})
        if found["answer"] is None:
            raise Ask(found["question"], options, **terms)
        return Said(found["answer"], found["reason"])

    def stands_open(self, question: str) -> bool:
        return bool(self._post("/answers", {"question": question})["open"])

    # Files.

    def store(self) -> SnapshotStore:
        return self._store

    def start(self) -> Start:
        try:
            self._store.make()
            found = self._post("/start", {"have": self._store.tips(self.mandate.card)[:50]})
            commit = found["commit"]
            if commit is None:
                return Start()
            if found["bundle"]:
                with _bundle() as path:
                    path.write_bytes(self._download(found["bundle"]))
                    transport.take(self._store, path)
                self._store.keep(f"refs/holdfast/{self.mandate.card}/start-{commit}", commit)
            self._there |= {commit, self._store.describe(commit).base or commit}
            self._sent_tree = self._store.tree_of(commit)
        except GitFailed as error:
            raise WorkspaceError(
                f"The snapshot that the server gave can't be used: {error}.",
                "Check this host's disk and git.",
                retryable=True,
            ) from None
        return Start(commit, tuple(found["parents"]))

    def sent(self, snapshot: Snapshot) -> Snapshot:
        if snapshot.commit not in self._there:
            try:
                bundle = self._bundled(snapshot.commit)
            except GitFailed as error:
                raise WorkspaceError(
                    f"The snapshot can't be sent: {error}.", "Check this host's disk and git."
                ) from None
            self._post("/workspace", {"bundle": bundle})
            self._there |= {snapshot.commit, snapshot.base}
            self._sent_tree = snapshot.tree
        return snapshot

    def found(self, store: SnapshotStore) -> None:
        """Nothing: what a killed worker left here is kept in this host's own store."""

    def leave(self, workspace: Workspace) -> None:
        try:
            commit = workspace.leave()
            if commit is None or self._store.tree_of(commit) == self._sent_tree:
                return
            stat = self._store.diffstat(workspace.head, commit)
            files = f"{stat.changed_files} file{'' if stat.changed_files == 1 else 's'} changed"
            summary = f"{files}, +{stat.additions} −{stat.deletions}, in no checkpoint."
            self._post("/salvage", {"summary": summary, "bundle": self._bundled(commit)})
        except Exception as error:
            # Its folder still has it all.
            log.warning("what was left of %s could not be kept: %s", self.mandate.card, error)

    def _bundled(self, commit: str) -> str:
        """Return the artifact that holds the snapshot, but for what the server has."""
        with _bundle() as path:
            transport.write(self._store, commit, sorted(self._there), path)
            size = path.stat().st_size
            if size > self.host.max_artifact_bytes:
                raise WorkspaceError(
                    f"What changed in the workspace takes {size} bytes, and the server takes "
                    f"{self.host.max_artifact_bytes} at once.",
                    "Have git ignore what is built, then retry the card.",
                )
            return self._upload(path.read_bytes(), "application/x-git-bundle")[0]

    # What ends the attempt.

    def complete(
        self,
        summary: str,
        *,
        result: Any,
        evidence: Sequence[Mapping[str, Any]],
        score: Score | None = None,
    ) -> None:
        shown = [{**one, "criterion": str(one["criterion"])} for one in evidence]
        body = {"summary": summary, "result": result, "evidence": shown}
        if score is not None:
            body["score"] = {"value": score.value, "problem": score.problem}
        self._post("/complete", body)

    def fail(
        self,
        error: str,
        *,
        lesson: str = "",
        fault: str = "",
        evidence: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        shown = [{**one, "criterion": str(one["criterion"])} for one in evidence]
        self._post("/fail", {"error": error, "lesson": lesson, "fault": fault, "evidence": shown})

    def block(
        self, reason: str, *, question: str = "", options: Sequence[str] = (), **terms: Any
    ) -> None:
        body = {"reason": reason, "question": question, "options": list(options), **terms}
        self._post("/block", body)

    def release(
        self,
        summary: str,
        next_step: str,
        *,
        reason: str,
        retry_after_seconds: int,
        lacks: str = "",
    ) -> None:
        self.unfit, self.lacks = reason == "unfit", lacks
        body = {"summary": summary, "next_step": next_step, "reason": reason}
        self._post("/release", {**body, "retry_after_seconds": retry_after_seconds})

    # The calls.

    def _get(self, path: str, **params: Any) -> Any:
        return _said(lambda: self._client.get(f"{self._path}{path}", headers=self._lease, **params))

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return _said(
            lambda: self._client.post(f"{self._path}{path}", dict(body), headers=self._lease)
        )

    def _upload(self, content: bytes, content_type: str) -> tuple[str, int]:
        headers = {"Content-Type": content_type}
        stored = _said(
            lambda: self._client.request(
                "POST", "/artifacts", content=content, headers=headers
            ).json()
        )
        return stored["sha256"], stored["size_bytes"]

    def _download(self, sha256: str) -> bytes:
        return bytes(_said(lambda: self._client.request("GET", f"/artifacts/{sha256}").content))


def _said(call: Callable[[], Any]) -> Any:
    """Return what the server answers; its refusals are raised as the store itself has them."""
    try:
        return call()
    except errors.Unreachable:
        raise
    except (errors.LeaseLost, errors.Unauthorized, errors.Forbidden, errors.NotFound) as error:
        raise LeaseLost(error.detail) from None
    except errors.ApiError as error:
        if error.status == 429 or error.status >= 500:
            raise errors.Unreachable(error.detail, status=error.status) from None
        if error.code == BudgetExceeded.code:
            raise BudgetExceeded(error.detail) from None
        if error.code == EvidenceMissing.code:
            raise EvidenceMissing(error.detail) from None
        if error.code == StepConflict.code:
            raise StepConflict(error.detail) from None
        if error.code == "no_workspace":
            retryable = bool(error.problem.get("retryable"))
            raise WorkspaceError(error.detail, "", retryable=retryable) from None
        raise Invalid(error.detail, errors=error.errors) from None


def _ended(status: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's end as the API takes it."""
    body = {name: value for name, value in said.items() if name != "usage"}
    usage: Usage | None = said.get("usage")
    if usage is not None:
        cost = Decimal(usage.cost_usd).quantize(Decimal("0.000001"))
        body["usage"] = {**usage.as_json(), "cost_usd": f"{cost:f}"}
    return {"status": status, **body}


def _criteria(told: Sequence[Mapping[str, Any]] | None) -> tuple[Criterion, ...] | None:
    if told is None:
        return None
    return tuple(Criterion(one["number"], one["text"], one["check"]) for one in told)


def _batches(pieces: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the pieces in requests that the server takes."""
    batch: list[dict[str, Any]] = []
    chars = 0
    for piece in pieces:
        if batch and (len(batch) >= PIECES_AT_ONCE or chars + len(piece["text"]) > 150_000):
            yield batch
            batch, chars = [], 0
        batch.append(piece)
        chars += len(piece["text"])
    if batch:
        yield batch


@contextlib.contextmanager
def _bundle() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        yield Path(folder) / "snapshot.bundle"
