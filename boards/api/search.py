"""Search over REST."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import searching
from boards.searching import Hit
from events.endpoint import Endpoint, limit_of
from events.receipts import Answer
from goals.search import language
from goals.search.marking import Piece

NAMES = ("board", "goal", "card", "by")


class SearchQuery(serializers.Serializer[Any]):
    q = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=language.MAX_CHARS,
        help_text='Words, "phrases", beginnings*, kind: board: goal: card: by: after:',
    )
    board = serializers.CharField(required=False, max_length=64)
    goal = serializers.CharField(required=False, max_length=64)
    card = serializers.CharField(required=False, max_length=64)
    by = serializers.CharField(required=False, max_length=200)
    kind = serializers.CharField(
        required=False, max_length=200, help_text="One or more, a comma between them."
    )
    cursor = serializers.CharField(required=False, max_length=400)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=200)


class PieceOut(serializers.Serializer[Piece]):
    text = serializers.CharField()
    marks = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()),
        help_text="Where what was found begins and ends in the text.",
    )


class HitOut(serializers.Serializer[Hit]):
    kind = serializers.CharField(source="entry.kind")
    id = serializers.SerializerMethodField()
    number = serializers.IntegerField(source="entry.number", allow_null=True)
    board = serializers.CharField(source="board.key")
    card = serializers.CharField(source="card.key", default=None, allow_null=True)
    card_title = serializers.CharField(source="card.title", default=None, allow_null=True)
    goal = serializers.UUIDField(source="goal.pk", default=None, allow_null=True)
    title = serializers.CharField(source="entry.title")
    snippet = PieceOut(source="piece")
    actor = serializers.CharField(source="entry.actor")
    at = serializers.DateTimeField(source="entry.at")
    score = serializers.FloatField()
    url = serializers.CharField(source="href")

    def get_id(self, hit: Hit) -> str:
        """The row's own id."""
        return searching.id_of(hit.entry)


class SearchOut(serializers.Serializer[Any]):
    results = HitOut(many=True)
    next = serializers.CharField(allow_null=True)
    count = serializers.IntegerField(help_text="500 stands for 500 or more.")
    partly = serializers.BooleanField(help_text="Nothing has all the words; these have some.")


class SearchView(Endpoint):
    """Find something that a board, goal or card remembers, by its words."""

    for_attempts = True

    @extend_schema(operation_id="search", parameters=[SearchQuery], responses=SearchOut)
    def get(self, request: Request) -> Response:
        wanted = self.query(SearchQuery)
        found = searching.search(
            self.principal,
            wanted.get("q", ""),
            names={name: [wanted[name]] for name in NAMES if wanted.get(name)},
            kinds=[one for one in wanted.get("kind", "").split(",") if one.strip()],
            limit=limit_of(request),
            cursor=wanted.get("cursor"),
        )
        return self.respond(Answer(200, answer(found)))


def answer(found: searching.Results) -> dict[str, Any]:
    """Return the results as the API shows them."""
    return {
        "results": [dict(hit) for hit in HitOut(found.hits, many=True).data],
        "next": found.following,
        "count": found.count,
        "partly": found.partly,
    }
