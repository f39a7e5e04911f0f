"""Cards with their whole history in one file, written here and brought in elsewhere.

    bundle.tar   manifest.json     every other member with its SHA-256 and size
                 data.json         rows: goal, cards, attempts, steps, checkpoints, messages, …
                 snapshots.pack    the files of the checkpoints and salvages: a git pack
                 output.jsonl      live output, up to a bound, see ``output``
                 artifacts/<sha>   content by digest

A card takes along the cards that its lines begin at, so that the chain of digests is whole. Files
that were written before bundles held live output are read all the same.

Bringing in trusts nothing of a file: members are plain files that the manifest names, read in
place and never unpacked to a path; every digest is checked, the checkpoints' chain too, before
anything is written; rows come in one transaction. Cards that were not finished arrive paused
in the backlog: their commands are somebody else's until a person has looked. The same file again
gives the same cards.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError
from django.db.models import Model, Q
from django.utils import timezone

from boards import cards, placing
from boards.models import Attempt, Board, Card, Dependency, Message
from checkpoints import artifacts, output, recovery, spilling
from checkpoints.git import GitFailed
from checkpoints.models import (
    Artifact,
    ArtifactLink,
    Brought,
    Checkpoint,
    Line,
    Salvage,
    Step,
)
from checkpoints.secretsearch import Spill
from checkpoints.snapshots import EMPTY
from checkpoints.stores import store_of
from goals import memory
from goals.models import Criterion, Decision, Discovery, Evidence, Goal
from kernel import sql
from kernel.errors import DomainError, Invalid
from kernel.limits import load_json
from kernel.tx import transition

FORMAT = "holdfast-bundle/1"
MAX_MEMBERS = 20_000
MAX_DATA_BYTES = 256 * 1024 * 1024
_MANIFEST, _DATA, _PACK = "manifest.json", "data.json", "snapshots.pack"
_OUTPUT = "output.jsonl"
State = Card.State
_FINISHED = (State.COMPLETED, State.CANCELLED, State.REVIEW, State.BLOCKED)

#: What a card's rows are, in the order in which they can be made.
_OF_CARD: tuple[type[Model], ...] = (Attempt, Checkpoint, Line, Step, Message, Salvage)
#: What a new row never takes from a bundle: whom it belonged to, where it stood.
_LEFT = {
    Card: {
        "board_id",
        "column_id",
        "goal_id",
        "number",
        "key",
        "rank",
        "race_id",
        "part_of_id",
        "state",
        "paused",
    },
    Attempt: {"board_id", "token_id", "briefing_sha256", "briefing_tokens"},
    Goal: {"board_id", "parent_id"},
}


class BadBundle(DomainError):
    """The file is no bundle, or not the one that was written. Nothing was made of it."""

    code = "bad_bundle"
    status = 422
    title = "Bad bundle"


# ── writing ──────────────────────────────────────────────────────────────────────────────


def export(chosen: Iterable[Card], goal: Goal | None = None) -> IO[bytes]:
    """Return an open file with the cards, those they began at, and the goal. Raises GitFailed.

    The caller closes it; it has no name. Whoever reads it reads the board as it was for a moment
    each: a card that runs meanwhile is whole up to some checkpoint.
    """
    every = _with_origins(chosen)
    data = _rows(every, goal)
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Path] = {_DATA: Path(folder, _DATA), _PACK: Path(folder, _PACK)}
        store = store_of(every[0].board_id)
        data["snapshots"] = store.pack(_commits(data), parts[_PACK]) if store.exists else []
        if not parts[_PACK].exists():
            parts[_PACK].touch()
        parts[_DATA].write_text(json.dumps(data, cls=DjangoJSONEncoder))
        newest = sorted(data["attempt"], key=lambda row: row["started_at"], reverse=True)
        parts[_OUTPUT] = Path(folder, _OUTPUT)
        output.write([row["id"] for row in newest], parts[_OUTPUT])
        for sha in sorted(_artifacts(data)):
            if artifacts.path_of(sha).is_file():
                parts[f"artifacts/{sha}"] = artifacts.path_of(sha)
        return _written(parts)


def see_what_they_hold(chosen: Iterable[Card]) -> None:
    """Pass if no file in the bundle of the cards holds a secret of the board. Raises SecretInFiles.

    Unlike a merge a bundle takes along every checkpoint, and what the repository had before.
    """
    spills: set[Spill] = set()
    for card in _with_origins(chosen):
        rows = Checkpoint.objects.filter(card=card, dropped_at=None).order_by("number")
        before = ""
        for workspace in [
            *rows.values_list("workspace", flat=True),
            *Salvage.objects.filter(attempt__card=card).values_list("workspace", flat=True),
        ]:
            base, commit = ((workspace or {}).get(name) or "" for name in ("base", "commit"))
            if not commit:
                continue
            if base and base != commit:
                spills |= {*spilling.of_card(card.board_id, EMPTY, base)}
            # One after the other: each file is looked into where it came to be what it is.
            spills |= {*spilling.of_card(card.board_id, before or base or EMPTY, commit)}
            before = commit
    spilling.refuse(
        sorted(spills, key=lambda spill: (spill.path, spill.secret)),
        "A bundle takes along the files of every checkpoint: change the secret, or say that they "
        "may go out as they are.",
    )


def _with_origins(chosen: Iterable[Card]) -> list[Card]:
    """Return the cards with all that their lines begin at, each once."""
    found: dict[UUID, Card] = {}
    todo = list(chosen)
    while todo:
        card = todo.pop(0)
        if card.pk in found:
            continue
        found[card.pk] = card
        origins = Line.objects.filter(card=card, origin__isnull=False).values("origin__card")
        todo += Card.objects.filter(pk__in=origins)
    return sorted(found.values(), key=lambda card: card.number)


def _rows(every: list[Card], goal: Goal | None) -> dict[str, Any]:
    pks = [card.pk for card in every]
    goal = goal or next((card.goal for card in every if card.goal), None)
    mine = Q(card_id__in=pks) | (Q(goal=goal) if goal else Q(pk=None))
    rows: dict[str, Any] = {
        "goal": _dump(goal) if goal else None,
        "criteria": [_dump(c) for c in goal.criteria.order_by("number")] if goal else [],
        "evidence": [_dump(e) for e in Evidence.objects.filter(criterion__goal=goal).order_by("pk")]
        if goal
        else [],
        "decisions": [_dump(d) for d in Decision.objects.filter(mine).order_by("at", "pk")],
        "discoveries": [_dump(d) for d in Discovery.objects.filter(mine).order_by("at", "pk")],
        "cards": [
            {**_dump(card), "in_goal": goal is not None and card.goal_id == goal.pk}
            for card in every
        ],
        "dependencies": [
            [str(d.card_id), str(d.depends_on_id)]
            for d in Dependency.objects.filter(card__in=pks, depends_on__in=pks)
        ],
    }
    for model in _OF_CARD:
        owner = "attempt__card__in" if model is Salvage else "card__in"
        order = "number" if model in (Attempt, Checkpoint, Line, Step) else "pk"
        found = model._default_manager.filter(**{owner: pks}).order_by(order)
        rows[model.__name__.lower()] = [_dump(row) for row in found]
    return rows


def _dump(row: Model) -> dict[str, Any]:
    return {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields}


def _commits(data: Mapping[str, Any]) -> list[str]:
    held = [row for row in data["checkpoint"] if not row["dropped_at"]] + data["salvage"]
    found = [(row["workspace"] or {}).get(n) for row in held for n in ("base", "commit")]
    return [str(commit) for commit in found if commit]


def _artifacts(data: Mapping[str, Any]) -> set[str]:
    held = [row for row in data["checkpoint"] if not row["dropped_at"]] + data["salvage"]
    found = {a["sha256"] for row in held for a in row["artifacts"]}
    return found | {e["artifact"] for e in data["evidence"] if e["artifact"]}


def _written(parts: Mapping[str, Path]) -> IO[bytes]:
    files: dict[str, dict[str, Any]] = {}
    for name, path in parts.items():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = {"sha256": digest, "size_bytes": path.stat().st_size}
    manifest = json.dumps({"format": FORMAT, "files": files}, sort_keys=True).encode()
    out = tempfile.TemporaryFile()  # noqa: SIM115 — the caller's
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(_MANIFEST, len(manifest)), io.BytesIO(manifest))
        for name, path in parts.items():
            with path.open("rb") as file:
                tar.addfile(_member(name, files[name]["size_bytes"]), file)
    out.seek(0)
    return out


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size  # no owner, no time: the same rows make the same file
    return info


# ── reading ──────────────────────────────────────────────────────────────────────────────


@dataclass
class _Bundle:
    """A file whose every member is what its manifest says."""

    tar: tarfile.TarFile
    members: dict[str, tarfile.TarInfo]

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path) -> Iterator[_Bundle]:
        """Give the bundle in the file. Raises BadBundle."""
        try:
            with tarfile.open(path, "r:") as tar:
                yield cls._checked(tar)
        except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
            raise BadBundle(f"The file is no bundle: {error}.") from None

    @classmethod
    def _checked(cls, tar: tarfile.TarFile) -> _Bundle:
        members: dict[str, tarfile.TarInfo] = {}
        for info in tar:
            plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
            if not plain or info.name in members or len(members) >= MAX_MEMBERS:
                raise BadBundle(f"{info.name[:80]} has no place in a bundle.")
            members[info.name] = info
        found = cls(tar, members)
        if _MANIFEST not in members or members[_MANIFEST].size > MAX_DATA_BYTES:
            raise BadBundle("The file is no bundle: it has no manifest.")
        told = found._json(_MANIFEST)
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise BadBundle(f"The file is no {FORMAT}.")
        files = told.get("files")
        if not isinstance(files, dict) or set(files) != set(members) - {_MANIFEST}:
            raise BadBundle("The file has other members than its manifest names.")
        for name, about in files.items():
            with found.open(name) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if not isinstance(about, dict) or digest != about.get("sha256"):
                raise BadBundle(f"{name} is not what was written.")
            if name not in (_DATA, _PACK, _OUTPUT) and name != f"artifacts/{digest}":
                raise BadBundle(f"{name} has no place in a bundle.")
        return found

    def open(self, name: str) -> io.BufferedReader:
        if name not in self.members:
            raise BadBundle(f"The file has no {name}.")
        file = self.tar.extractfile(self.members[name])
        return cast(io.BufferedReader, file)

    def _json(self, name: str) -> Any:
        if self.members[name].size > MAX_DATA_BYTES:
            raise BadBundle(f"{name} is larger than {MAX_DATA_BYTES // 2**20} MiB.")
        with self.open(name) as file:
            try:
                return load_json(file.read())
            except DomainError as error:
                raise BadBundle(f"{name}: {error}") from None

    def data(self) -> dict[str, Any]:
        found = self._json(_DATA) if _DATA in self.members else None
        lists = ("cards", "criteria", "evidence", "decisions", "discoveries", "dependencies")
        names = (*lists, *(model.__name__.lower() for model in _OF_CARD), "snapshots")
        if not isinstance(found, dict) or not all(isinstance(found.get(n), list) for n in names):
            raise BadBundle("data.json holds no cards.")
        return found

    def output(self) -> list[output.Piece]:
        if _OUTPUT not in self.members:
            return []
        with self.open(_OUTPUT) as file:
            try:
                return output.read(file)
            except (ValueError, DomainError) as error:
                raise BadBundle(f"{_OUTPUT}: {error}.") from None

    @property
    def artifacts(self) -> list[str]:
        return [n.rpartition("/")[2] for n in self.members if n.startswith("artifacts/")]


def bring(board: Board, sha256: str, actor: str) -> Brought:
    """Return the cards made of the bundle that is stored as the artifact.

    Raises BadBundle; then nothing was made. Runs outside of any transaction.
    """
    known = Brought.objects.filter(board=board, sha256=sha256).first()
    if known is not None:
        return known
    with _Bundle.opened(artifacts.path_of(sha256)) as bundle:
        data = bundle.data()
        try:
            _check_chain(data)
            trees = _trees(data)
            with bundle.open(_PACK) as file:
                store_of(board.pk).receive(file.read(), trees, sha256)
            for sha in bundle.artifacts:
                with bundle.open(f"artifacts/{sha}") as file:
                    artifacts.store(
                        iter(lambda f=file: f.read(1 << 20), b""),  # type: ignore[misc]
                        expected_sha256=sha,
                        principal="system:bundle",
                    )
            brought, commits = _make(board, sha256, data, bundle.output(), actor)
        except GitFailed as error:
            raise BadBundle(f"The files of its checkpoints are damaged: {error}.") from None
        except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as error:
            raise BadBundle(f"data.json is not what was written: {error}.") from None
        except IntegrityError:
            raise BadBundle("data.json contradicts itself.") from None
    if trees:
        with contextlib.suppress(GitFailed):  # what it was received under keeps it, too
            store_of(board.pk).assign(sha256, commits)
    return brought


def _check_chain(data: Mapping[str, Any]) -> None:
    """Pass only if every checkpoint's content and place give its digest. Raises BadBundle."""
    digests = {row["id"]: row["digest"] for row in data["checkpoint"]}
    for row in data["checkpoint"]:
        parent = row["parent_id"]
        if parent is not None and parent not in digests:
            raise BadBundle(f"What C{row['number']} goes on from is not in the bundle.")
        if row["state_bytes"] is not None:
            continue
        body = {name: row[name] for name in recovery.CONTENT}
        if recovery.digest_of(body, digests[parent] if parent else "") != row["digest"]:
            raise BadBundle(f"C{row['number']} has other content than its digest was made of.")


def _trees(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the tree that each snapshot in the bundle must have; empty where nobody says."""
    packed = {str(commit) for commit in data["snapshots"]}
    trees = dict.fromkeys(sorted(packed), "")
    for row in [*data["checkpoint"], *data["salvage"]]:
        workspace = row["workspace"] or {}
        if workspace.get("commit") in packed:
            trees[workspace["commit"]] = str(workspace.get("tree") or "")
    return trees


@dataclass
class _Maker:
    """Makes rows of a bundle's, and knows which became which."""

    board: Board
    data: Mapping[str, Any]
    new: dict[str, Any] = field(default_factory=dict)

    def build(self, model: type[Model], row: Mapping[str, Any], **own: Any) -> Any:
        """Return the new, checked row, not saved yet. Raises ValidationError."""
        left = _LEFT.get(model, set())
        values = dict(own)
        for f in model._meta.concrete_fields:
            if f.attname in own or f.name in own or f.primary_key or f.attname in left:
                continue
            if f.attname not in row:
                continue  # written before there was such a field
            value = row[f.attname]
            if f.is_relation or f.attname in ("card_id", "attempt_id", "origin_checkpoint"):
                values[f.attname] = self.new.get(str(value)) if value is not None else None
            else:
                values[f.attname] = f.to_python(value)
        made = model(**values)
        for f in model._meta.concrete_fields:
            value = getattr(made, f.attname)
            # A form asks for more than a row does: nothing here is blank by mistake.
            if not f.is_relation and f.attname not in left and value not in f.empty_values:
                f.clean(value, made)
        return made

    def keep(self, row: Mapping[str, Any], made: Any) -> Any:
        made.save(force_insert=True)
        self.new[str(row["id"])] = made.pk
        return made


def _make(
    board: Board,
    sha256: str,
    data: Mapping[str, Any],
    printed: list[output.Piece],
    actor: str,
) -> tuple[Brought, dict[str, set[str]]]:
    maker = _Maker(board, data)
    names: dict[str, str] = {}
    commits: dict[str, set[str]] = {}
    packed = set(map(str, data["snapshots"]))
    with transition():
        sql.lock(Board.objects.filter(pk=board.pk))
        known = Brought.objects.filter(board=board, sha256=sha256).first()
        if known is not None:
            return known, {}
        goal = _make_goal(maker, actor)
        for row in data["cards"]:
            card = _make_card(maker, row, goal, actor)
            names[str(row["key"])] = card.key
            commits[card.key] = set()
        for name in ("decision", "discovery"):
            _make_memory(maker, name, goal)
        for model in _OF_CARD:
            for row in data[model.__name__.lower()]:
                _make_row(maker, model, row)
        _mend_links(maker)
        output.store(
            printed, {str(row["id"]): maker.new[str(row["id"])] for row in data["attempt"]}
        )
        for row in data["cards"]:
            _settle_card(maker, row, names, actor)
        keys = dict(Card.objects.filter(key__in=names.values()).values_list("pk", "key"))
        owners = {
            maker.new[str(r["id"])]: keys[maker.new[str(r["card_id"])]] for r in data["attempt"]
        }
        for row in [*data["checkpoint"], *data["salvage"]]:
            held = {str((row["workspace"] or {}).get(n)) for n in ("commit", "base")} & packed
            commits[owners[maker.new[str(row["attempt_id"])]]] |= held
        brought = Brought.objects.create(board=board, sha256=sha256, cards=names, actor=actor)
    return brought, commits


def _make_goal(maker: _Maker, actor: str) -> Goal | None:
    row = maker.data["goal"]
    if row is None:
        return None
    goal = memory.create(
        maker.board.pk,
        actor,
        title=str(row["title"])[:300],
        intent=row["intent"],
        constraints=row["constraints"],
        budgets=row["budgets"],
    )
    maker.new[str(row["id"])] = goal.pk
    for criterion in maker.data["criteria"]:
        maker.keep(criterion, maker.build(Criterion, criterion, goal=goal))
    return goal


def _make_card(maker: _Maker, row: Mapping[str, Any], goal: Goal | None, actor: str) -> Card:
    card = cards.create(
        maker.board,
        actor,
        title=str(row["title"]),
        goal=goal if row.get("in_goal") else None,
        workflow=row["workflow"],
    )
    maker.new[str(row["id"])] = card.pk
    return card


def _make_memory(maker: _Maker, name: str, goal: Goal | None) -> None:
    model: Any = Decision if name == "decision" else Discovery
    for row in maker.data["decisions" if name == "decision" else "discoveries"]:
        own = {"goal": goal if row["goal_id"] else None, "board_id": maker.board.pk}
        # What is elsewhere stays there: rows made later, and what only this installation knows.
        later: dict[str, Any] = {"proposed_card_id": None}
        if name == "decision":
            later = {"superseded_by": None, "checkpoint_id": None}
        elif row["status"] == Discovery.Status.PROPOSED:
            later["status"] = Discovery.Status.OPEN
        maker.keep(row, maker.build(model, row, **own, **later, attempt_id=None))


def _make_row(maker: _Maker, model: type[Model], row: Mapping[str, Any]) -> None:
    own: dict[str, Any] = {}
    if model is Attempt:
        own = {"board": maker.board, "token": None, "briefing_sha256": "", "briefing_tokens": 0}
        if row["status"] == Attempt.Status.RUNNING:
            own |= {
                "status": Attempt.Status.RELEASED,
                "finished_at": timezone.now(),
                "reason": "was running when the bundle was written",
            }
    elif model is Checkpoint:
        there = {str(c) for c in maker.data["snapshots"]}
        commit = (row["workspace"] or {}).get("commit")
        if row["dropped_at"] is None and commit and commit not in there:
            own = {"dropped_at": timezone.now()}  # its files stayed where they were
        if row["dropped_at"] is not None or own:
            own["released_at"] = timezone.now()
    maker.keep(row, maker.build(model, row, **own))


def _mend_links(maker: _Maker) -> None:
    """Fill in what refers to rows that were made after it, and make artifacts readable."""
    for row in maker.data["decisions"]:
        if row["superseded_by_id"]:
            later = maker.new.get(str(row["superseded_by_id"]))
            Decision.objects.filter(pk=maker.new[str(row["id"])]).update(superseded_by=later)
    for name, model in (("decisions", Decision), ("discoveries", Discovery)):
        for row in maker.data[name]:
            made: Any = model
            attempt = maker.new.get(str(row["attempt_id"]))
            made.objects.filter(pk=maker.new[str(row["id"])]).update(attempt_id=attempt)
    for row in maker.data["evidence"]:
        maker.keep(row, maker.build(Evidence, row))
    for row in [*maker.data["checkpoint"], *maker.data["salvage"]]:
        attempt = Attempt.objects.get(pk=maker.new[str(row["attempt_id"])])
        there = set(
            Artifact.objects.filter(pk__in=[a["sha256"] for a in row["artifacts"]]).values_list(
                "pk", flat=True
            )
        )
        ArtifactLink.objects.bulk_create(
            ArtifactLink(
                artifact_id=a["sha256"],
                board=maker.board,
                card_id=attempt.card_id,
                attempt=attempt,
                name=str(a["name"])[:500],
            )
            for a in row["artifacts"]
            if a["sha256"] in there
        )


def _settle_card(
    maker: _Maker, row: Mapping[str, Any], names: Mapping[str, str], actor: str
) -> None:
    """Give the card what it was, and put it where somebody looks at it first."""
    card = cards.lock(maker.new[str(row["id"])])
    made = maker.build(Card, row, title=card.title, workflow=card.workflow)
    kept = (
        "description", "priority", "labels", "requires", "inputs", "max_attempts",
        "review_required", "due_at", "budgets", "failures", "blocked_reason", "fence", "line",
        "origin_checkpoint", "carried", "created_at",
    )  # fmt: skip
    state = State(row["state"])
    if state in _FINISHED:
        placing.place(card, state)
    else:
        card.paused = True
        card.save(update_fields=["paused"])
    for name in kept:
        setattr(card, name, getattr(made, name))
    card.save(update_fields=list(kept))
    Dependency.objects.bulk_create(
        Dependency(card_id=card.pk, depends_on_id=maker.new[parent])
        for child, parent in maker.data["dependencies"]
        if child == str(row["id"])
    )
    unmet = Dependency.objects.filter(card=card).exclude(depends_on__state=State.COMPLETED)
    Card.objects.filter(pk=card.pk).update(unmet_dependencies=unmet.count())
    gone = Checkpoint.objects.filter(card=card, dropped_at__isnull=False)
    placing.note(
        card,
        "card.brought",
        actor,
        was=str(row["key"]),
        checkpoints=list(gone.values_list("number", flat=True)),
    )


def of_goal(goal: Goal) -> list[Card]:
    """Return the cards that a goal's bundle holds. Raises Invalid for a goal without any."""
    found = list(Card.objects.filter(goal=goal).select_related("goal").order_by("number"))
    if not found:
        raise Invalid.field("goal", "has no card to write.")
    return found
