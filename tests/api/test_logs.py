"""Output over REST: any stretch of it by line numbers, its end, what matches, and all of it."""

from __future__ import annotations

from checkpoints import logs
from tests.api.world import World, undone


def path(world: World) -> str:
    return f"/cards/{world.here.cards['running'].key}/attempts/{world.here.attempt.number}/log"


def test_a_log_is_read_by_lines(world: World) -> None:
    attempt = world.here.attempt
    text = "".join(f"\x1b[32mline {n}\n" for n in range(1, 501))
    logs.append(attempt.pk, [("many", "stdout", text), ("many", "stderr", "unfinished")])
    page = world.viewer.get(f"{path(world)}?step=many&line=400&limit=3")
    assert [(x["line"], x["text"]) for x in page["results"]] == [
        (n, f"\x1b[32mline {n}") for n in (400, 401, 402)
    ]
    assert {x["style"] for x in page["results"]} == {"32"}
    assert (page["next_line"], page["total_lines"], page["ended"]) == (403, 501, False)
    last = world.viewer.get(f"{path(world)}?step=many&tail=2&plain=true")
    assert [(x["stream"], x["text"], x["style"]) for x in last["results"]] == [
        ("stdout", "line 500", ""),
        ("stderr", "unfinished", ""),
    ]
    assert last["next_line"] is None
    whole = world.viewer.get(f"{path(world)}?tail=1")
    assert whole["total_lines"] == 503  # two of another step before it
    assert whole["results"][0]["step"] == "many"
    assert world.viewer.get(f"{path(world)}?step=never")["results"] == []
    assert world.viewer.get(f"{path(world)}?line=9000")["results"] == []
    for query in ("line=0", "limit=1001", "tail=x", "step=%00", "limit=", "line=99999999999"):
        assert world.viewer.get(f"{path(world)}?{query}").refusal == (422, "invalid"), query
    assert world.viewer.get(path(world).replace("/1/", "/9/")).refusal == (404, "not_found")
    huge = path(world).replace("/1/", f"/{10**12}/")
    assert world.viewer.get(huge).refusal == (404, "not_found")


def test_a_log_is_searched_on_the_server(world: World) -> None:
    pieces = [("t", "stdout", f"\x1b[1mHit\x1b[0m {n}\n" * 2 + "miss\n") for n in range(150)]
    logs.append(world.here.attempt.pk, pieces)
    found = world.viewer.get(f"{path(world)}/matches?step=t&q=hit 1")
    assert found["results"][:4] == [4, 5, 31, 32]
    assert (found["next_line"], found["texts"]) == (None, [])
    told = world.viewer.get(f"{path(world)}/matches?step=t&q=hit&texts=true")
    assert len(told["texts"]) == 200
    assert told["texts"][0] == {"line": 1, "text": "Hit 0"}
    rest = world.viewer.get(f"{path(world)}/matches?step=t&q=hit&line={told['next_line']}")
    assert len(rest["results"]) == 100
    assert world.viewer.get(f"{path(world)}/matches?step=t&q=hit&case=true")["results"] == []
    assert world.viewer.get(f"{path(world)}/matches?q=").refusal == (422, "invalid")
    assert world.viewer.get(f"{path(world)}/matches").refusal == (422, "invalid")


def test_a_log_is_taken_whole_as_a_download(world: World) -> None:
    logs.append(world.here.attempt.pk, [("a/b", "stdout", "\x1b[31mé\r\n"), ("a/b", "log", "x")])
    answer = world.viewer.get(f"{path(world)}/raw?step=a/b")
    assert answer.raw == "\x1b[31mé\r\nx".encode()
    assert answer.headers["Content-Disposition"].endswith('-1-a-b.log"')
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_log_says_when_no_more_will_come(world: World) -> None:
    with undone():
        world.member.post(f"/cards/{world.here.cards['running'].key}/cancel")
        assert world.viewer.get(path(world))["ended"] is True
