"""Where a worker's token is from, and the people beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import holdfast
from tests import serving


@dataclass
class Desk:
    """A board with a member's token, and a person who steers."""

    site: serving.Site
    board: str
    token: str

    @property
    def url(self) -> str:
        return self.site.web.origin

    def client(self, **options: Any) -> holdfast.Client:
        return holdfast.Client(self.url, self.token, **options)

    def aclient(self, **options: Any) -> holdfast.AsyncClient:
        return holdfast.AsyncClient(self.url, self.token, **options)

    def card(self, title: str = "a card", **more: Any) -> str:
        wanted = {"board": self.board, "title": title, "column": "in_progress", **more}
        answer = self.site.call("POST", "/api/v1/cards", wanted)
        assert answer.status == 201, answer.body
        return str(answer.body["key"])

    def get(self, path: str) -> Any:
        answer = self.site.call("GET", f"/api/v1{path}")
        assert answer.status == 200, answer.body
        return answer.body

    def steer(self, card: str, verb: str) -> None:
        answer = self.site.call("POST", f"/api/v1/cards/{card}/{verb}", {})
        assert answer.status == 200, answer.body

    def attempts(self, card: str) -> list[dict[str, Any]]:
        return list(self.get(f"/cards/{card}/attempts")["results"])

    def steps(self, card: str) -> list[tuple[str, str]]:
        """Key and status of each step that counts, in order."""
        found = self.get(f"/cards/{card}/steps?limit=200")["results"]
        return [(s["key"], s["status"]) for s in reversed(found) if not s["superseded"]]


def new_desk(site: serving.Site) -> Desk:
    board = site.new_board()["key"]
    return Desk(site, board, site.new_token(board)["token"])
