"""What a goal asked for before, over REST, and taking a change back."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from boards import lookup
from boards.api.views import IF_MATCH, LIST
from events.endpoint import Endpoint, listed, page
from events.receipts import Answer
from goals import amendments
from goals.api import contracts as c
from goals.models import Amendment
from kernel.access import Role, hidden


class AmendmentsView(Endpoint):
    """The amendments of a goal, newest first."""

    @extend_schema(
        operation_id="list_amendments", parameters=LIST, responses=listed(c.AmendmentOut)
    )
    def get(self, request: Request, goal: UUID) -> Response:
        rows = Amendment.objects.filter(goal=lookup.goal(self.principal, goal))
        return self.respond(
            page(request, rows, lambda a: c.AmendmentOut(a, many=True).data, order="-number")
        )


class WithdrawView(Endpoint):
    """Take an amendment back: what it changed is as it was before."""

    @extend_schema(
        operation_id="withdraw_amendment",
        request=c.WithdrawIn,
        responses=c.GoalOut,
        parameters=[IF_MATCH],
    )
    def post(self, request: Request, goal: UUID, number: int) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        if not found.amendments.filter(number=number).exists():
            raise hidden("amendment")
        reason = self.fields(c.WithdrawIn).get("reason", "")
        version = self.expected_version()

        def effect() -> Answer:
            restored = amendments.withdraw(
                found.pk, number, self.principal.actor, reason, expected_version=version
            )
            return Answer(200, c.goal_out(restored))

        return self.answer(effect, current=lambda: c.goal_out(found))
