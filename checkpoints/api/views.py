"""Steps, checkpoints, briefings and artifacts over REST."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from boards import cards, lookup, splits, standings
from boards.api.contracts import CardOut, MessageOut, NothingIn, card_out
from boards.api.views import LIST
from boards.models import Attempt, Card
from checkpoints import (
    artifacts,
    briefing,
    bundles,
    differences,
    joining,
    lines,
    loglines,
    merging,
    previews,
    retention,
    reviews,
    salvaging,
    terminal,
    verifying,
)
from checkpoints.api import contracts as c
from checkpoints.git import GitFailed
from checkpoints.loglines import Log
from checkpoints.models import Checkpoint, Salvage, Step
from events.endpoint import Endpoint, listed, page
from events.receipts import Answer
from goals.models import Goal
from kernel.access import Role
from kernel.errors import DomainError, Forbidden, Invalid, Malformed, NotFound, TransitionRefused
from kernel.limits import whole_number


class StepsView(Endpoint):
    """Every try at every step of a card, newest first."""

    for_attempts = True

    @extend_schema(operation_id="list_steps", parameters=LIST, responses=listed(c.StepOut))
    def get(self, request: Request, card: str) -> Response:
        rows = Step.objects.filter(card=lookup.card(self.principal, card))
        return self.respond(
            page(request, rows, lambda s: c.StepOut(s, many=True).data, order="-number")
        )


class CheckpointsView(Endpoint):
    """The checkpoints of a card, newest first."""

    for_attempts = True

    @extend_schema(
        operation_id="list_checkpoints", parameters=LIST, responses=listed(c.CheckpointOut)
    )
    def get(self, request: Request, card: str) -> Response:
        rows = Checkpoint.objects.filter(card=lookup.card(self.principal, card))
        return self.respond(
            page(request, rows, lambda p: c.CheckpointOut(p, many=True).data, order="-number")
        )


class CheckpointView(Endpoint):
    """One checkpoint, whole."""

    @extend_schema(operation_id="get_checkpoint", responses=c.CheckpointOut)
    def get(self, request: Request, card: str, number: int) -> Response:
        found = Checkpoint.objects.filter(
            card=lookup.card(self.principal, card), number=number
        ).first()
        if found is None:
            raise NotFound(f"The card has no checkpoint {number}.")
        return self.respond(Answer(200, c.CheckpointOut(found).data))

    @extend_schema(operation_id="name_checkpoint", request=c.NameIn, responses=c.CheckpointOut)
    def patch(self, request: Request, card: str, number: int) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        tag = self.fields(c.NameIn)["tag"]

        def effect() -> Answer:
            named = retention.name(found.pk, number, self.principal.actor, tag)
            return Answer(200, c.CheckpointOut(named).data)

        return self.answer(effect)


class StorageView(Endpoint):
    """What a board keeps of its checkpoints' contents, and what everything of it takes up."""

    @extend_schema(operation_id="get_storage", responses=c.KeepingOut)
    def get(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board)
        return self.respond(Answer(200, c.KeepingOut(retention.measured(found)).data))

    @extend_schema(operation_id="edit_storage", request=c.KeepingIn, responses=c.KeepingOut)
    def patch(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)
        changes = self.fields(c.KeepingIn)

        def effect() -> Answer:
            rule = retention.set_rule(found, self.principal.actor, changes)
            return Answer(200, c.KeepingOut(rule).data)

        return self.answer(effect)


class FileView(Endpoint):
    """One file as a checkpoint has it, always as a download."""

    @extend_schema(
        operation_id="get_checkpoint_file",
        parameters=[OpenApiParameter("path", str, required=True)],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, card: str, number: int) -> Any:
        found = lookup.card(self.principal, card)
        path = request.query_params.get("path", "")
        if not 0 <= number <= c.MAX_COUNT:
            raise NotFound(f"{found.key} has no checkpoint {number}.")
        data = previews.file(found, number, path, previews.MAX_FILE_BYTES)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.rpartition("/")[2]) or "file"
        response = HttpResponse(data, content_type="application/octet-stream")
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return response


class DifferenceView(Endpoint):
    """What changed from one checkpoint of a card to another."""

    @extend_schema(
        operation_id="diff_checkpoints",
        parameters=[
            OpenApiParameter("from", int, description="A checkpoint's number, else its parent.")
        ],
        responses=c.DifferenceOut,
    )
    def get(self, request: Request, card: str, number: int) -> Response:
        found = lookup.card(self.principal, card)
        new = differences.named(found, number)
        raw = request.query_params.get("from")
        if raw is None:
            old = new.parent
        elif (other := whole_number(raw)) is not None:
            old = differences.named(found, other)
        else:
            raise Invalid.field("from", "must be the number of a checkpoint of this card.")
        told = c.DifferenceOut(differences.between(found, old, new)).data
        return self.respond(Answer(200, told))


class RewindView(Endpoint):
    """Let the card's next attempt go on from an earlier checkpoint."""

    @extend_schema(operation_id="rewind_card", request=c.RewindIn, responses=CardOut)
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        number = self.fields(c.RewindIn)["checkpoint"]

        def effect() -> Answer:
            return Answer(200, card_out(lines.rewind(found.pk, number, self.principal.actor)))

        return self.answer(effect)


class ForkView(Endpoint):
    """Make cards that start from a checkpoint; several of them race."""

    @extend_schema(operation_id="fork_card", request=c.ForkIn, responses={201: c.ForksOut})
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        fields = self.fields(c.ForkIn)
        approaches = fields.get("approaches") or []

        def effect() -> Answer:
            made = lines.fork(
                found.pk,
                fields["checkpoint"],
                self.principal.actor,
                title=fields.get("title") or "",
                approach=fields.get("approach") or "",
                approaches=approaches,
                count=fields.get("count") or max(1, len(approaches)),
                terms=lines.Terms(
                    fields["choose"], fields.get("score") or "", fields.get("deadline_seconds")
                ),
                budgets=fields.get("budgets"),
            )
            told = [card_out(fork) for fork in made]
            return Answer(201, {**told[0], "cards": told})

        return self.answer(effect)


class SplitView(Endpoint):
    """Hand a card's work to part-cards that start from its checkpoint and are joined again."""

    @extend_schema(operation_id="get_split", responses=c.SplitOut)
    def get(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card)
        made = splits.newest(found)
        if made is None:
            raise NotFound(f"{found.key} was never split.")
        return self.respond(Answer(200, c.SplitOut(made).data))

    @extend_schema(operation_id="split_card", request=c.SplitIn, responses={201: c.PartsOut})
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        fields = self.fields(c.SplitIn)

        def effect() -> Answer:
            parts = joining.split(
                found.pk, self.principal.actor, fields["parts"], fields.get("checkpoint")
            )
            told = [card_out(part) for part in parts]
            return Answer(201, {**card_out(found), "parts": told})

        return self.answer(effect)


class RaceView(Endpoint):
    """The race that a card runs in: all racers side by side."""

    @extend_schema(operation_id="get_race", responses=c.RaceOut)
    def get(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card)
        if found.race_id is None:
            raise NotFound(f"{found.key} runs in no race.")
        return self.respond(Answer(200, c.RaceOut(standings.of_race(found.race_id)).data))


class ChooseView(Endpoint):
    """Make a card in review the winner of its race (people only)."""

    @extend_schema(operation_id="choose_card", request=NothingIn, responses=CardOut)
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        self.fields(NothingIn)
        if not self.principal.is_person:
            raise Forbidden("Only a person may choose; sign in to the board in a browser.")

        def effect() -> Answer:
            return Answer(200, card_out(cards.choose(found.pk, self.principal.actor)))

        return self.answer(effect)


class SalvagesView(Endpoint):
    """What attempts at a card left behind, newest first."""

    @extend_schema(operation_id="list_salvages", parameters=LIST, responses=listed(c.SalvageOut))
    def get(self, request: Request, card: str) -> Response:
        rows = Salvage.objects.filter(attempt__card=lookup.card(self.principal, card))
        rows = rows.select_related("attempt", "adopted_as")
        return self.respond(
            page(request, rows, lambda s: c.SalvageOut(s, many=True).data, order="-pk")
        )


class SalvageDifferenceView(Endpoint):
    """How what an attempt left differs from what the card would otherwise go on from."""

    @extend_schema(operation_id="diff_salvage", responses=c.SalvageDifferenceOut)
    def get(self, request: Request, card: str, salvage: int) -> Response:
        found = lookup.card(self.principal, card)
        compared = salvaging.compared(found, salvaging.named(found, salvage))
        return self.respond(Answer(200, c.SalvageDifferenceOut(compared).data))


class AdoptView(Endpoint):
    """Let the card's next attempt go on from what an earlier one left behind."""

    @extend_schema(
        operation_id="adopt_salvage", request=c.AdoptIn, responses={201: c.CheckpointOut}
    )
    def post(self, request: Request, card: str, salvage: int) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        next_step = self.fields(c.AdoptIn).get("next_step") or ""

        def effect() -> Answer:
            point = salvaging.adopt(found.pk, salvage, self.principal.actor, next_step)
            return Answer(201, c.CheckpointOut(point).data)

        return self.answer(effect)


WITH_SECRETS = OpenApiParameter(
    "with_secrets",
    bool,
    description="Even if files hold a secret of the board, which is refused otherwise: 409 "
    "`secret_in_files`.",
)


def _with_secrets(request: Request) -> bool:
    return request.query_params.get("with_secrets", "").lower() in ("true", "1")


class BundleView(Endpoint):
    """A card, or a goal with all its cards, as one file that can be brought in elsewhere."""

    @extend_schema(
        operation_id="get_card_bundle",
        parameters=[WITH_SECRETS],
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, card: str) -> Any:
        found = lookup.card(self.principal, card)
        return self.sent(request, found.key, [found])

    def sent(
        self, request: Request, name: str, chosen: list[Card], goal: Goal | None = None
    ) -> FileResponse:
        """Return the bundle as a download."""
        if self.principal.scope is not None:
            raise Forbidden("A bundle holds more than this token sees.")
        if not _with_secrets(request):
            bundles.see_what_they_hold(chosen)
        try:
            file = bundles.export(chosen, goal)
        except GitFailed as error:
            raise TransitionRefused(f"The snapshots can't be read: {error}.") from None
        return FileResponse(
            file,
            as_attachment=True,
            filename=f"{name}.bundle.tar",
            content_type="application/x-tar",
        )


class GoalBundleView(BundleView):
    """A goal with all its cards, as one file that can be brought in elsewhere."""

    @extend_schema(
        operation_id="get_goal_bundle",
        parameters=[WITH_SECRETS],
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, goal: UUID) -> Any:
        found = lookup.goal(self.principal, goal)
        return self.sent(request, f"goal-{found.pk}", bundles.of_goal(found), found)


class BringView(Endpoint):
    """Make cards, with their history, of a bundle that was uploaded as an artifact."""

    @extend_schema(operation_id="bring_bundle", request=c.BundleIn, responses={201: c.BroughtOut})
    def post(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)
        sha256 = self.fields(c.BundleIn)["artifact"]
        artifacts.readable(sha256, self.principal)
        made: list[Any] = []

        def prepare() -> None:
            made.append(bundles.bring(found, sha256, self.principal.actor))

        def effect() -> Answer:
            return Answer(201, c.BroughtOut(made[0]).data)

        return self.answer(effect, prepare=prepare)


class MergeView(Endpoint):
    """Merge a card's files into a branch of the board's repository (people only)."""

    @extend_schema(
        operation_id="merge_card",
        request=c.MergeIn,
        responses={200: c.MergeOut, 202: c.JoinedOut},
    )
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        if not self.principal.is_person:
            raise Forbidden("Only a person may merge; sign in to the board in a browser.")
        fields = self.fields(c.MergeIn)
        approve = fields.pop("approve")
        sends_back = fields.pop("on_conflict") == "send_back"
        reason = fields.pop("reason", "")
        pushed: list[merging.Pushed] = []
        joined: list[merging.Joined] = []

        def prepare() -> None:
            try:
                pushed.append(merging.push(found, **fields))
            except merging.MergeConflict:
                if not sends_back:
                    raise
                where = {name: fields[name] for name in ("into", "checkpoint") if name in fields}
                joined.append(merging.join(found, **where))

        def effect() -> Answer:
            if joined:
                point = merging.send_back(joined[0], self.principal.actor, reason)
                told = {
                    "into": joined[0].into,
                    "files": list(joined[0].files),
                    "checkpoint": point.number,
                    "card": card_out(lookup.card(self.principal, card)),
                }
                return Answer(202, told)
            merge = merging.record(pushed[0], self.principal.actor, approve=approve)
            return Answer(200, c.MergeOut(merge).data)

        return self.answer(effect, prepare=prepare, current=lambda: card_out(found))


class RemarksView(Endpoint):
    """Remark on a line of a checkpoint's files; whoever goes on is told until it is resolved."""

    @extend_schema(operation_id="remark_on_line", request=c.RemarkIn, responses={201: MessageOut})
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        fields = self.fields(c.RemarkIn)

        def effect() -> Answer:
            made = reviews.remark(found.pk, self.principal.actor, **fields)
            return Answer(201, MessageOut(made).data)

        return self.answer(effect)


class RemarkView(Endpoint):
    """Resolve a remark, or open it again."""

    @extend_schema(operation_id="resolve_remark", request=c.ResolveIn, responses=MessageOut)
    def patch(self, request: Request, card: str, message: int) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        said = found.messages.filter(pk=message).exclude(place__isnull=True).first()
        if said is None:
            raise NotFound(f"The card has no remark {message}.")
        resolved = self.fields(c.ResolveIn)["resolved"]

        def effect() -> Answer:
            kept = reviews.resolve(said, self.principal.actor, resolved)
            return Answer(200, MessageOut(kept).data)

        return self.answer(effect)


class VerifyView(Endpoint):
    """Whether a card's checkpoints, their files and artifacts are what was written."""

    @extend_schema(
        operation_id="verify_card",
        parameters=[
            OpenApiParameter("digest", str, description="Of a checkpoint, noted down earlier.")
        ],
        responses=c.VerdictOut,
    )
    def get(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card)
        expected = request.query_params.get("digest", "")
        if expected and not re.fullmatch(r"[0-9a-f]{64}", expected):
            raise Invalid.field("digest", "must be 64 hexadecimal digits.")
        verdict = verifying.verify(found, expected=expected)
        return self.respond(Answer(200, c.VerdictOut(verdict).data))


class PatchView(Endpoint):
    """All that a card changed, as one patch for `git am` or `git apply`."""

    @extend_schema(
        operation_id="get_card_patch",
        parameters=[WITH_SECRETS],
        responses={(200, "text/x-patch"): OpenApiTypes.STR},
    )
    def get(self, request: Request, card: str) -> Any:
        found = lookup.card(self.principal, card)
        work = merging.work_of(found)
        if not _with_secrets(request):
            merging.see_what_it_holds(work)
        response = HttpResponse(merging.patch(work), content_type="text/x-patch; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{found.key}.patch"'
        return response


_AGES = re.compile(r"\d+ ?(?:s|sec|min|h|d|days?|hours?|minutes?|seconds?)\b[^,.;()\n]{0,20}? ago")


class BriefingView(Endpoint):
    """What the next worker will be told."""

    for_attempts = True

    @extend_schema(
        operation_id="get_briefing",
        parameters=[OpenApiParameter("max_tokens", int, description="200 to 50000, else 4000.")],
        responses={200: dict},
    )
    def get(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card)
        built = briefing.build(found, max_tokens=max_tokens(request))
        # What it says decides, not how long ago: ages alone make no other briefing.
        said = _AGES.sub("ago", built.markdown)
        tag = f'"{hashlib.sha256(said.encode()).hexdigest()[:32]}"'
        if request.headers.get("If-None-Match") == tag:
            return Response(status=304, headers={"ETag": tag})
        body = {
            "markdown": built.markdown,
            "tokens": built.tokens,
            "sections": list(built.sections),
            "omitted": list(built.omitted),
        }
        return self.respond(Answer(200, body, headers={"ETag": tag}))


class AttemptEndpoint(Endpoint):
    """Base of what is read of one attempt."""

    def attempt(self, card: str, number: int) -> Attempt:
        """Return the card's attempt of this number. Raises NotFound."""
        found = lookup.card(self.principal, card)
        attempt = found.attempts.filter(number=number).first() if number < 2**31 else None
        if attempt is None:
            raise NotFound(f"The card has no attempt {number}.")
        return attempt


class ToldView(AttemptEndpoint):
    """What an attempt was told when it began, to the byte."""

    @extend_schema(operation_id="get_attempt_briefing", responses=c.ToldOut)
    def get(self, request: Request, card: str, number: int) -> Response:
        kept = briefing.told(self.attempt(card, number))
        if kept is None:
            raise NotFound(f"Attempt {number} was given no briefing when it began.")
        return self.respond(Answer(200, c.ToldOut(kept).data))


class LogView(AttemptEndpoint):
    """A stretch of what an attempt printed, by line numbers."""

    @extend_schema(operation_id="read_log", parameters=[c.LogQuery], responses=c.LogOut)
    def get(self, request: Request, card: str, number: int) -> Response:
        attempt = self.attempt(card, number)
        asked = self.query(c.LogQuery)
        log = Log(attempt.pk, asked.get("step"))
        total = log.total()
        first, limit = asked["line"], asked["limit"]
        if "tail" in asked:
            first, limit = max(1, total - asked["tail"] + 1), asked["tail"]
        lines = loglines.stretch(log, first, limit)
        # More may have come since it was counted.
        total = max(total, lines[-1].line) if lines else total
        if asked["plain"]:
            for line in lines:
                line.text, line.style = terminal.plain(line.text), ""
        body = {
            "results": c.LogLineOut(lines, many=True).data,
            "next_line": lines[-1].line + 1 if lines and lines[-1].line < total else None,
            "total_lines": total,
            "ended": attempt.status != Attempt.Status.RUNNING,
        }
        return self.respond(Answer(200, body))


class LogMatchesView(AttemptEndpoint):
    """The numbers of the lines that hold some words, over all of an attempt's output."""

    @extend_schema(
        operation_id="search_log", parameters=[c.LogSearchQuery], responses=c.LogMatchesOut
    )
    def get(self, request: Request, card: str, number: int) -> Response:
        attempt = self.attempt(card, number)
        asked = self.query(c.LogSearchQuery)
        found = loglines.search(
            Log(attempt.pk, asked.get("step")),
            asked["q"],
            asked["line"],
            case=asked["case"],
            most=200 if asked["texts"] else loglines.MAX_MATCHES,
        )
        body = {
            "results": found.lines,
            "texts": c.LogMatchOut(found.found, many=True).data if asked["texts"] else [],
            "next_line": found.next_line,
        }
        return self.respond(Answer(200, body))


class RawLogView(AttemptEndpoint):
    """All that an attempt printed, byte by byte, as a download."""

    @extend_schema(
        operation_id="download_log",
        parameters=[OpenApiParameter("step", str, description="A step's key.")],
        responses={(200, "text/plain"): OpenApiTypes.STR},
    )
    def get(self, request: Request, card: str, number: int) -> Any:
        attempt = self.attempt(card, number)
        step = self.query(c.RawLogQuery).get("step")
        response = StreamingHttpResponse(
            loglines.raw(Log(attempt.pk, step)), content_type="text/plain; charset=utf-8"
        )
        named = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{card}-{number}{f'-{step}' if step else ''}")
        response["Content-Disposition"] = f'attachment; filename="{named}.log"'
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return response


def max_tokens(request: Request) -> int:
    """Return the briefing budget asked for. Raises Invalid."""
    asked = whole_number(request.query_params.get("max_tokens", "4000"), 6)
    if asked is None or not 200 <= asked <= 50_000:
        raise Invalid.field("max_tokens", "must be a whole number from 200 to 50000.")
    return asked


class _Raw(BaseParser):
    """Leaves the body unread: an artifact is stored as it streams in."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return stream


class TooLarge(DomainError):
    code = "too_large"
    status = 413
    title = "Too large"


class ArtifactsView(Endpoint):
    """Keep a file by its content."""

    parser_classes = (_Raw,)
    upload: artifacts.Upload

    @extend_schema(
        operation_id="create_artifact",
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses={200: dict, 201: dict},
        parameters=[
            OpenApiParameter(
                "Digest", str, OpenApiParameter.HEADER, description="sha-256=<base64 or hex>"
            )
        ],
    )
    def post(self, request: Request) -> Response:
        expected = _expected(request.headers.get("Digest"))
        length = int(request.headers.get("Content-Length") or 0)
        if length > settings.MAX_ARTIFACT_BYTES:
            raise TooLarge(f"An artifact has at most {settings.MAX_ARTIFACT_BYTES} bytes.")
        media_type = _media_type(request.headers.get("Content-Type"))

        def effect() -> Answer:
            artifact, new = artifacts.keep(
                self.upload, content_type=media_type, principal=self.principal.key
            )
            body = {
                "sha256": artifact.pk,
                "size_bytes": artifact.size_bytes,
                "content_type": media_type,
            }
            return Answer(201 if new else 200, body)

        chunks = _chunks(request._request)
        with artifacts.received(chunks, expected_sha256=expected) as self.upload:
            return self.answer(effect)

    def content(self) -> bytes:
        return self.upload.sha256.encode()


class ArtifactView(Endpoint):
    """One artifact's content, always as a download."""

    @extend_schema(
        operation_id="get_artifact",
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, sha256: str) -> Any:
        artifact = artifacts.readable(sha256, self.principal)
        response = FileResponse(
            artifacts.path_of(artifact.pk).open("rb"),
            as_attachment=True,
            filename=artifact.pk,
            content_type="application/octet-stream",
        )
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "sandbox; default-src 'none'"
        response["Cache-Control"] = "private, immutable, max-age=31536000"
        return response


def _media_type(header: str | None) -> str:
    text = (header or "").split(";")[0].strip().lower()
    plain = text.isascii() and text.isprintable() and 0 < len(text) <= 200
    return text if plain else "application/octet-stream"


def _expected(header: str | None) -> str | None:
    """Return the digest announced by ``Digest: sha-256=…``, base64 as in RFC 3230, or hex."""
    if header is None:
        return None
    name, _, value = header.partition("=")
    value = value.strip()
    if name.strip().lower() != "sha-256" or not value:
        raise Malformed.field("Digest", "must be sha-256=<base64>.")
    if len(value) == 64 and all(d in "0123456789abcdefABCDEF" for d in value):
        return value.lower()
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed.field("Digest", "must be sha-256=<base64>.") from None
    if len(raw) != 32:
        raise Malformed.field("Digest", "must be sha-256=<base64> of 32 bytes.")
    return raw.hex()


def _chunks(request: Any) -> Iterator[bytes]:
    while chunk := request.read(1 << 20):
        yield chunk
