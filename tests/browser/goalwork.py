"""A board in the middle of work on a goal: what its pages have to show and to change."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.serving import Site

#: Everything a goal remembers, made in one process; prints the names of what tests look for.
_FURNISH = """
import json, sys, django
django.setup()
from importlib import import_module
from django.conf import settings
from django.contrib.auth import get_user_model, BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from boards import cards, leases
from boards.models import Board, Membership, Message
from boards.notices import raising
from boards.planning import applying
from checkpoints import steps
from goals import criteria, decisions, discoveries, memory
from goals.search import keeping
from kernel.access import Role

board = Board.objects.get(key=sys.argv[1])
user = get_user_model().objects.create_user(f"bea-{board.key}", "bea@example.org")
Membership.objects.create(board=board, user=user, role=Role.OPERATOR)
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.create()

whole = memory.create(board.pk, "user:ann", title="Payments run without the old provider")
goal = memory.create(board.pk, "user:ann", title="Move off the v1 API", parent=whole,
    intent="Every caller speaks to v2, and nobody who pays notices.",
    constraints=["No downtime", "Old error codes stay"],
    criteria=[{"text": "All tests pass", "check": "python -m pytest -q"},
              {"text": "No call to /v1 in a week of logs"},
              {"text": "Support has read the guide", "by_person": True}])
part = memory.create(board.pk, "user:ann", title="Refunds speak v2", parent=goal)
place = {c.kind: c for c in board.columns.all()}

def card(title, kind="backlog", **more):
    return cards.create(board, "user:ann", title=title, column=place[kind], goal=goal, **more)

def tried(made, approach, worker="ada"):
    attempt = leases.claim(worker, card_id=made.pk, lease_seconds=3600)
    leases.describe(attempt.pk, approach)
    return attempt

client = card("Teach the client v2", "in_progress", planned_as="client", covers=[1])
attempt = tried(client, "Change the client behind its own interface")
steps.record(attempt.pk, "walrus", "succeeded", title="Look for callers", kind="command",
             result={"output": "found seventeen callers of the walrus gateway"})
leases.complete(attempt.pk, "Done; 41 tests pass",
                evidence=[{"criterion": "2", "met": True, "detail": "grep finds no /v1"}])
refund = card("Port the refund job", "in_progress", depends_on=[client], covers=[1],
              planned_as="refund", priority=1)
attempt = tried(refund, "Rewrite the job from scratch", "bob")
leases.fail(attempt.pk, "The ledger and the job disagree by a cent", lesson="Rounding differs",
            retryable=False)
guide = card("Write the guide", "backlog", planned_as="guide")
old = card("Mirror the traffic", "backlog", planned_as="mirror")
running = card("Port the invoice job", "in_progress", planned_as="invoice")
attempt = tried(running, "Port it call by call")

was = decisions.decide(board.pk, goal.pk, "user:ann", title="Cache rates in memory")
decisions.decide(board.pk, goal.pk, "worker:ada", title="Cache rates in Redis",
    context="Rates are read a hundred times a second.", rationale="They survive a restart.",
    alternatives=["A table"], consequences="Redis has to run.", supersedes=was.pk,
    files=["rates/cache.py"])
dead = discoveries.discover(board.pk, goal.pk, "worker:bob", kind="dead_end",
    title="Rewriting the job from scratch", detail="It rounds half up; the ledger half even.",
    rests_on={"requirement": "Old error codes stay"})
fact = discoveries.discover(board.pk, goal.pk, "worker:ada", kind="fact",
    title="The sandbox answers in UTC", severity="low")
flaky = discoveries.discover(board.pk, goal.pk, "worker:ada", kind="architecture_issue",
    title="Two modules share one walrus cache", severity="high")
memory.edit(goal.pk, "user:ann", {"title": "Move off the v1 payments API"}, reason="There are two")
memory.edit(goal.pk, "user:ann", {"constraints": ["No downtime", "Old error codes stay",
    "Amounts stay whole cents"]}, reason="Finance asked")

plan = applying.create(goal, "user:ann", [
    {"ref": "guide", "title": "Write the migration guide", "description": "With examples.",
     "covers": [3], "estimate": 3},
    {"ref": "client", "title": "Teach the client v2"},
    {"ref": "refund", "title": "Port the refund job", "covers": [1]},
    {"ref": "invoice", "title": "Port the invoice job, too"},
    {"ref": "log", "title": "Log what still calls v1", "covers": [2], "estimate": 2},
    {"ref": "off", "title": "Switch v1 off for a day", "depends_on": ["log"], "labels": ["ops"]}],
    note="The guide moves **first**.")
raising.tick()
keeping.tick(30)
print(json.dumps({"cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}",
    "name": user.username, "goal": str(goal.pk), "whole": str(whole.pk), "part": str(part.pk),
    "plan": str(plan.pk), "dead": str(dead.pk), "fact": str(fact.pk), "issue": str(flaky.pk),
    "decision": str(was.pk), "cards": {"client": client.key, "refund": refund.key,
    "guide": guide.key, "mirror": old.key, "invoice": running.key}}))
"""

#: One blocked card with its question, and the link that answers it as the person of argv[3].
_ASK = """
import json, sys, django
django.setup()
from django.contrib.auth import get_user_model
from boards import cards, leases
from boards.models import Board, Message
from boards.notices import links
from boards.notices.models import Notice
board = Board.objects.get(key=sys.argv[1])
user = get_user_model().objects.get(username=sys.argv[3])
asked = []
for terms in json.loads(sys.argv[2]):
    column = board.columns.get(kind="in_progress")
    card = cards.create(board, "user:ann", title=terms.pop("title"), column=column)
    attempt = leases.claim("ada", card_id=card.pk)
    leases.block(attempt.pk, "It can't be told", **terms)
    question = Message.objects.get(card=card, kind="question")
    notice = Notice(user=user, board=board, card=card, kind="question", message=question)
    address = links.to_answer(notice)
    asked.append({"key": card.key, "message": question.pk,
                  "path": address[address.index("/inbox/"):]})
print(json.dumps(asked))
"""


@dataclass
class Work:
    """A furnished board, and what a person or an agent does elsewhere meanwhile."""

    site: Site
    board: str
    cookie: str
    name: str
    goal: str
    whole: str
    part: str
    plan: str
    dead: str
    fact: str
    issue: str
    decision: str
    cards: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the API says to somebody else's request, which must succeed."""
        answer = self.site.call(method, f"/api/v1{path}", body)
        assert answer.status < 300, (path, answer.status, answer.body)
        return answer.body

    def asked(self, *questions: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask the questions on cards of their own; return key, message and the link's path."""
        told = self.site.run(_ASK, self.board, json.dumps(questions), self.name)
        return list(json.loads(told))


def furnished(site: Site, **board: Any) -> Work:
    """Return a new board with a goal in the middle of its work."""
    key = site.new_board(**board)["key"]
    return Work(site, key, **json.loads(site.run(_FURNISH, key)))
