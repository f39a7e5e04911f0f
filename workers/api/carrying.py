"""What a worker on another host needs to carry a card's workflow out, besides the claim."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from boards import leases
from boards.models import Attempt, Card
from checkpoints import briefing
from events.receipts import Answer
from kernel.tx import transition
from workers import database, handing, questions, trusting
from workers.api import contracts as c
from workers.api.views import AttemptEndpoint
from workers.executors.contract import Ask


class CarryingEndpoint(AttemptEndpoint):
    """Base of the calls that a worker makes, and none of the programs that it runs."""

    for_attempts = False

    def held(self) -> Attempt:
        """Return the attempt with its card and board, its lease renewed. Raises LeaseLost."""
        with transition():
            leases.hold(self.attempt_id)
        return Attempt.objects.select_related("card__board").get(pk=self.attempt_id)


class TermsView(CarryingEndpoint):
    """What the work is done under."""

    @extend_schema(operation_id="get_terms", responses=c.TermsOut)
    def get(self, request: Request, attempt: UUID) -> Response:
        self.require_live(attempt)
        held = Attempt.objects.select_related("card__board").get(pk=attempt)
        mandate = database.mandate(held, held.card)
        terms = trusting.told(database.terms(held.card.board), held, self.principal)
        criteria = mandate.criteria
        if criteria is not None:
            told = [{"number": n.number, "text": n.text, "check": n.command} for n in criteria]
        body: dict[str, Any] = {
            "board": terms.board,
            "repository": terms.repository,
            "commands": terms.commands,
            "network": terms.network,
            "memory_mb": terms.memory_mb,
            "processes": terms.processes,
            "output_mb": terms.output_mb,
            "keep_ignored": list(terms.keep_ignored),
            "max_artifact_bytes": settings.MAX_ARTIFACT_BYTES,
            "criteria": told if criteria is not None else None,
            "score": mandate.score,
            "program_token": mandate.program_token,
            "secrets": dict(terms.secrets),
            "closed": list(terms.closed),
            "withheld": list(terms.withheld),
        }
        response = self.respond(Answer(200, body))
        response["Cache-Control"] = "no-store"
        return response


class AnswersView(CarryingEndpoint):
    """What a person answered to a step's question."""

    @extend_schema(operation_id="find_answer", request=c.AnswerIn, responses=c.AnswerOut)
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.AnswerIn)

        def effect() -> Answer:
            held, question = self.held(), fields["question"]
            told: dict[str, Any] = {"answer": None, "reason": "", "question": question}
            if fields.get("step"):
                given = ("options", "same_words", "question_kind", "detail")
                terms = {name: fields[name] for name in given if fields.get(name)}
                options = terms.pop("options", [])
                try:
                    said = questions.answer(held, fields["step"], question, options, **terms)
                    told |= {"answer": said.text, "reason": said.reason}
                except Ask as again:
                    told["question"] = again.question
            return Answer(200, {**told, "open": questions.stands_open(held, question)})

        return self.answer(effect)


class TellingView(CarryingEndpoint):
    """What a worker is told of the card now, kept with the attempt."""

    @extend_schema(operation_id="tell_worker", request=c.ToldIn, responses=c.TellingOut)
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.ToldIn)

        def effect() -> Answer:
            held = self.held()
            card = Card.objects.select_related("column", "board", "goal").get(pk=held.card_id)
            built = briefing.build(card, max_tokens=fields["max_tokens"])
            briefing.store(attempt, built)
            return Answer(200, {"markdown": built.markdown, "tokens": built.tokens})

        return self.answer(effect)


class StartView(CarryingEndpoint):
    """The files that the attempt begins from."""

    @extend_schema(operation_id="start_attempt", request=c.StartIn, responses=c.StartOut)
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.StartIn)
        found: dict[str, Any] = {}

        def prepare() -> None:
            found.update(handing.start(self.held(), fields["have"], self.principal))

        return self.answer(lambda: Answer(200, found), prepare=prepare)


class WorkspaceView(CarryingEndpoint):
    """A snapshot of the worker's files, for whoever goes on from it."""

    @extend_schema(operation_id="send_workspace", request=c.BundledIn, responses=c.BundledOut)
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.BundledIn)
        found: dict[str, Any] = {}

        def prepare() -> None:
            found.update(handing.take(self.held(), fields["bundle"], self.principal))

        return self.answer(lambda: Answer(200, found), prepare=prepare)
