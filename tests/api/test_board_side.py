"""The board side of the contract: names, codes and shapes as api.md fixes them."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from boards.models import Card
from tests.api.world import World

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def test_a_new_board_has_the_five_columns(world: World) -> None:
    made = world.root.post("/boards", {"key": "PAY", "name": "Payments"})
    assert made.status == 201
    assert [(c["name"], c["kind"], c["wip_limit"]) for c in made["columns"]] == [
        ("Backlog", "backlog", None),
        ("In progress", "in_progress", None),
        ("Blocked", "blocked", None),
        ("Review", "review", None),
        ("Completed", "completed", None),
    ]
    assert made["pull"] == "manual"
    assert world.root.get("/boards/PAY").json == made.json
    assert world.root.get(f"/boards/{made['id']}").json == made.json


def test_a_board_keeps_columns_by_id_and_refuses_to_lose_a_kind(world: World) -> None:
    columns = world.root.get("/boards/HERE")["columns"]
    edited = world.operator.patch(
        "/boards/HERE",
        {"columns": [*columns, {"name": "Doing too", "kind": "in_progress", "wip_limit": 2}]},
    )
    assert edited.status == 200
    assert [c["id"] for c in edited["columns"][:5]] == [c["id"] for c in columns]
    assert edited["columns"][5]["wip_limit"] == 2
    refused = world.operator.patch("/boards/HERE", {"columns": columns[1:]})
    assert refused.refusal == (422, "invalid")


def test_a_board_key_is_taken_once(world: World) -> None:
    refused = world.root.post("/boards", {"key": "HERE", "name": "Again"})
    assert refused.refusal == (422, "invalid")
    assert "key" in refused["errors"]


def test_a_change_of_an_active_goal_is_an_amendment_and_the_original_stays(world: World) -> None:
    goal = world.member.post(
        "/goals",
        {
            "board": "HERE",
            "title": "Pay",
            "intent": "take cards",
            "criteria": [{"text": "works", "check": "make test"}, {"text": "fast"}],
        },
    )
    assert goal.status == 201
    assert goal["status"] == "active"
    assert [(c["number"], c["text"], c["check"], c["met"]) for c in goal["criteria"]] == [
        (1, "works", "make test", None),
        (2, "fast", "", None),
    ]
    path = f"/goals/{goal['id']}"
    amended = world.member.patch(path, {"intent": "take cards and wallets"})
    assert amended.status == 200
    (amendment,) = amended["amendments"]
    assert amendment["before"]["intent"] == "take cards"
    assert amendment["after"]["intent"] == "take cards and wallets"
    assert world.member.patch(path, {"status": "achieved"})["status"] == "achieved"
    later = world.member.patch(path, {"intent": "done"})
    assert len(later["amendments"]) == 1, "a goal that is not active is merely edited"


def test_a_goal_can_have_a_parent_but_not_itself(world: World) -> None:
    parent = str(world.here.goal.pk)
    child = world.member.post("/goals", {"board": "HERE", "title": "Part", "parent": parent})
    assert child["parent"] == parent
    refused = world.member.patch(f"/goals/{parent}", {"parent": child["id"]})
    assert refused.refusal == (422, "invalid")


def test_decisions_and_discoveries_are_the_memory_of_a_goal(world: World) -> None:
    path = f"/goals/{world.here.goal.pk}"
    first = world.member.post(f"{path}/decisions", {"title": "a queue", "rationale": "simple"})
    second = world.member.post(
        f"{path}/decisions",
        {"title": "a bus", "alternatives": ["a queue"], "supersedes": first["id"]},
    )
    assert (first.status, second.status) == (201, 201)
    listed = world.viewer.get(f"{path}/decisions")["results"]
    assert [d["title"] for d in listed[:2]] == ["a bus", "a queue"]
    assert listed[1]["superseded_by"] == second["id"]
    found = world.member.post(
        f"{path}/discoveries", {"kind": "dead_end", "title": "no threads", "severity": "high"}
    )
    assert (found.status, found["status"]) == (201, "open")
    solved = world.member.post(f"/discoveries/{found['id']}/resolve", {"resolution": "forks"})
    assert (solved["status"], solved["resolution"]) == ("resolved", "forks")
    still_open = world.member.get(f"{path}/discoveries?status=open")["results"]
    assert found["id"] not in [d["id"] for d in still_open]


@pytest.mark.parametrize(
    "kind", ["failing_test", "architecture_issue", "new_requirement", "dead_end", "fact"]
)
def test_a_discovery_is_of_a_known_kind(kind: str, world: World) -> None:
    path = f"/goals/{world.here.goal.pk}/discoveries"
    assert world.member.post(path, {"kind": kind, "title": "t"}).status == 201
    assert world.member.post(path, {"kind": kind + "s", "title": "t"}).status == 422


def test_a_card_is_made_read_edited_and_deleted(world: World) -> None:
    body = world.example("create_card")
    made = world.member.post("/cards", body)
    assert made.status == 201
    assert re.fullmatch(r"HERE-\d+", made["key"])
    for name in ("title", "description", "priority", "labels", "requires", "inputs", "due_at"):
        assert made[name] == body[name], name
    assert made["depends_on"] == body["depends_on"]
    assert (made["state"], made["kind"], made["fence"]) == ("backlog", "backlog", 0)
    assert made["attempt"] is None
    assert made["counts"] == {"attempts": 0, "steps": 0, "checkpoints": 0, "failures": 0}
    for name in ("created_at", "updated_at"):
        assert INSTANT.fullmatch(made[name])
    by_key, by_id = (world.viewer.get(f"/cards/{made[n]}") for n in ("key", "id"))
    assert by_key.json == by_id.json == made.json
    edited = world.member.patch(f"/cards/{made['key']}", {"title": "Other", "priority": 0})
    assert (edited["title"], edited["priority"]) == ("Other", 0)
    assert edited["version"] > made["version"]
    assert world.member.delete(f"/cards/{made['key']}").refusal == (403, "forbidden")
    assert world.operator.delete(f"/cards/{made['key']}").status == 204
    assert world.member.get(f"/cards/{made['key']}").refusal == (404, "not_found")


@pytest.mark.parametrize("name", ["In progress", "in_progress", "IN PROGRESS", "id"])
def test_a_column_goes_by_id_name_or_kind(name: str, world: World) -> None:
    column = world.here.columns["in_progress"]
    card = world.here.of("backlog")
    wanted = str(column.pk) if name == "id" else name
    moved = world.member.post(f"/cards/{card.key}/move", {"column": wanted})
    assert (moved["column"], moved["state"]) == (str(column.pk), "waiting")


def test_a_patch_of_the_column_moves_the_card(world: World) -> None:
    card = world.here.of("backlog")
    moved = world.member.patch(f"/cards/{card.key}", {"column": "blocked", "title": "Stuck"})
    assert (moved["state"], moved["title"]) == ("blocked", "Stuck")


def test_a_move_ranks_before_and_after(world: World) -> None:
    keys = [
        world.member.post("/cards", {"board": "HERE", "title": t, "column": "review"})["key"]
        for t in "abc"
    ]
    a, b, c = keys
    assert world.member.post(f"/cards/{c}/move", {"column": "review", "before": a}).status == 200
    assert world.member.post(f"/cards/{a}/move", {"column": "review", "after": b}).status == 200
    rows = Card.objects.filter(key__in=keys).order_by("rank")
    assert [card.key for card in rows] == [c, b, a]


def test_a_move_into_a_lane_is_one_change(world: World) -> None:
    goal = world.member.post("/goals", {"board": "HERE", "title": "Ship it"})["id"]
    card = world.member.post("/cards", {"board": "HERE", "title": "one", "priority": 3}).json
    path, body = f"/cards/{card['key']}/move", {"column": "review", "goal": goal, "priority": 0}
    moved = world.member.post(path, body, if_match=f'"{card["version"]}"')
    assert (moved["kind"], moved["goal"], moved["priority"]) == ("review", goal, 0)
    # Half of it is never done: an unknown goal leaves the card where it is.
    unknown = {"column": "backlog", "goal": "01900000-0000-7000-8000-000000000000"}
    assert world.member.post(path, unknown).status == 422
    stale = world.member.post(path, {"column": "backlog", "priority": 1}, if_match='"1"')
    assert stale.status == 412
    kept = world.member.get(f"/cards/{card['key']}").json
    assert (kept["kind"], kept["goal"], kept["priority"]) == ("review", goal, 0)
    assert world.member.post(path, {"column": "review", "goal": None})["goal"] is None


def test_moving_a_running_card_away_revokes_its_lease(world: World) -> None:
    key = world.here.cards["running"].key
    assert world.member.post(f"/cards/{key}/move", {"column": "backlog"})["attempt"] is None
    late = world.member.post(f"/attempts/{world.here.attempt.pk}/heartbeat", lease=world.here.lease)
    assert late.refusal == (409, "lease_lost")


def test_a_wip_limit_warns_people(world: World) -> None:
    columns = world.root.get("/boards/HERE")["columns"]
    columns[3]["wip_limit"] = 1
    world.operator.patch("/boards/HERE", {"columns": columns})
    key = world.here.cards["backlog"].key
    moved = world.member.post(f"/cards/{key}/move", {"column": "review"})
    assert moved.status == 200
    assert moved["warnings"], "Review already holds a card"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("queue", "queue"),
        ("dependency", "dependency"),
        ("backoff", "backoff"),
        ("capability", "capability"),
        ("paused", "paused"),
    ],
)
def test_a_waiting_card_says_in_one_sentence_why(name: str, reason: str, world: World) -> None:
    body = {"board": "HERE", "title": name, "column": "in_progress"}
    if name == "dependency":
        body["depends_on"] = [world.here.cards["backlog"].key]
    if name == "capability":
        body["requires"] = ["gpu"]
    card = world.member.post("/cards", body)
    if name == "paused":
        world.member.post(f"/cards/{card['key']}/pause")
    if name == "backoff":
        claim = world.member.post("/claims", {"worker": "ada", "card": card["key"]})
        world.member.post(
            f"/attempts/{claim['attempt']['id']}/fail",
            {"error": "x"},
            lease=claim["lease"]["token"],
        )
    now = world.viewer.get(f"/cards/{card['key']}")
    assert (now["state"], now["reason"]) == ("waiting", reason)
    assert now["why_waiting"].endswith(".")


@pytest.mark.parametrize("state", ["backlog", "running", "blocked", "review", "completed"])
def test_a_card_that_does_not_wait_gives_no_reason(state: str, world: World) -> None:
    card = world.viewer.get(f"/cards/{world.here.cards[state].key}")
    assert (card["state"], card["reason"], card["why_waiting"]) == (state, None, None)


def test_cards_are_found_by_every_filter(world: World) -> None:
    made = world.member.post(
        "/cards",
        {"board": "HERE", "title": "Zebra crossing", "labels": ["road", 'a"b'], "description": "d"},
    )
    in_review = [world.here.cards[name].key for name in ("racer", "review")]
    keys = {
        "board=HERE&q=zebra": [made["key"]],
        f"q={made['key']}": [made["key"]],
        "label=road": [made["key"]],
        "label=roa": [],
        "label=a%22b": [made["key"]],
        "state=blocked": [world.here.cards["blocked"].key],
        "kind=review": in_review,
        "column=Review": in_review,
        "column=review": in_review,
        f"column={world.here.columns['review'].pk}": in_review,
        f"goal={world.here.goal.pk}&state=running": [world.here.cards["running"].key],
    }
    for query, expected in keys.items():
        found = world.viewer.get(f"/cards?{query}")
        assert [c["key"] for c in found["results"]] == expected, query
    assert world.viewer.get("/cards?state=sleeping").refusal == (422, "invalid")
    assert world.viewer.get("/cards?board=NOWHERE").refusal == (404, "not_found")


def test_the_history_of_a_card_comes_newest_first(world: World) -> None:
    key = world.here.cards["running"].key
    attempts = world.viewer.get(f"/cards/{key}/attempts")["results"]
    assert [(a["number"], a["status"], a["worker"]) for a in attempts] == [(1, "running", "ada")]
    steps = world.viewer.get(f"/cards/{key}/steps")["results"]
    assert [(s["key"], s["status"]) for s in steps] == [
        ("build/wheel", "started"),
        ("test", "succeeded"),
    ]
    checkpoints = world.viewer.get(f"/cards/{key}/checkpoints")["results"]
    assert [c["number"] for c in checkpoints] == [2, 1]
    assert checkpoints[0]["parent"] == checkpoints[1]["id"]
    one = world.viewer.get(f"/cards/{key}/checkpoints/1")
    assert one.json == checkpoints[1]
    assert one["artifacts"] == [{"name": "log.txt", "sha256": world.here.artifact}]
    assert world.viewer.get(f"/cards/{key}/checkpoints/9").refusal == (404, "not_found")


def test_what_an_attempt_was_told_stays_readable(world: World) -> None:
    key = world.here.cards["waiting"].key
    taken = world.member.post("/claims", {"worker": "ada", "card": key, "capabilities": ["python"]})
    assert taken.status == 201
    attempt, lease = taken["attempt"], taken["lease"]["token"]
    saved = {"summary": "half way", "next_step": "the rest"}
    path = f"/attempts/{attempt['id']}/checkpoints"
    assert world.member.post(path, saved, lease=lease).status == 201
    told = world.viewer.get(f"/cards/{key}/attempts/{attempt['number']}/briefing")
    assert told["markdown"] == taken["briefing"]["markdown"]
    assert hashlib.sha256(told["markdown"].encode()).hexdigest() == told["sha256"]
    assert world.viewer.get(f"/cards/{key}/attempts/{10**20}/briefing").status == 404


def test_the_briefing_is_what_the_next_worker_is_told(world: World) -> None:
    key = world.here.cards["running"].key
    told = world.viewer.get(f"/cards/{key}/briefing?max_tokens=1000")
    assert {"markdown", "tokens", "sections", "omitted"} <= set(told.json)
    assert told["tokens"] <= 1000
    again = world.viewer.get(
        f"/cards/{key}/briefing?max_tokens=1000", If_None_Match=told.headers["ETag"]
    )
    assert (again.status, again.raw) == (304, b"")
    for wrong in ("0", "-1", "x", "1e9", "%C2%B2"):
        refused = world.viewer.get(f"/cards/{key}/briefing?max_tokens={wrong}")
        assert refused.refusal == (422, "invalid")


def test_what_is_pinned_leads_every_briefing_until_it_is_not(world: World) -> None:
    key, goal = world.here.cards["running"].key, world.here.goal.pk
    said = world.member.post(f"/cards/{key}/messages", {"text": "mind the gap", "pinned": True})
    assert (said.status, said["pinned"]) == (201, True)
    decided = world.member.post(f"/goals/{goal}/decisions", {"title": "no locks"})
    assert decided["pinned"] is False
    for path in (
        f"/cards/{key}/messages/{said['id']}",
        f"/decisions/{decided['id']}",
        f"/discoveries/{world.here.discovery.pk}",
    ):
        pinned = world.member.patch(path, {"pinned": True})
        assert (pinned.status, pinned["pinned"]) == (200, True)
        assert world.member.patch(path, {"pinned": True}).status == 200
    told = world.viewer.get(f"/cards/{key}/briefing")["markdown"]
    assert "Pinned note" in told
    assert "“no locks” [pinned]" in told
    unpinned = world.member.patch(f"/cards/{key}/messages/{said['id']}", {"pinned": False})
    assert unpinned["pinned"] is False
    assert "Pinned note" not in world.viewer.get(f"/cards/{key}/briefing")["markdown"]
    other = world.here.cards["backlog"].key
    assert (
        world.member.patch(f"/cards/{other}/messages/{said['id']}", {"pinned": True}).status == 404
    )


def test_answering_the_open_question_makes_a_blocked_card_claimable(world: World) -> None:
    key = world.here.cards["blocked"].key
    (question,) = world.viewer.get(f"/cards/{key}/messages")["results"]
    assert (question["kind"], question["options"]) == ("question", ["a", "b"])
    said = world.member.post(f"/cards/{key}/messages", {"text": "b", "answers": question["id"]})
    assert (said.status, said["kind"], said["answers"]) == (201, "answer", question["id"])
    assert world.viewer.get(f"/cards/{key}")["state"] == "waiting"
    again = world.member.post(f"/cards/{key}/messages", {"text": "a", "answers": question["id"]})
    assert again.refusal == (409, "transition_refused")


def test_a_card_is_steered_by_its_verbs(world: World) -> None:
    waiting = world.here.cards["waiting"].key
    assert world.member.post(f"/cards/{waiting}/pause")["paused"] is True
    assert world.member.post(f"/cards/{waiting}/resume")["paused"] is False
    assert world.member.post(f"/cards/{waiting}/cancel")["state"] == "cancelled"
    assert world.member.post(f"/cards/{waiting}/cancel").refusal == (409, "transition_refused")
    assert world.member.post(f"/cards/{waiting}/retry")["state"] == "waiting"
    running = world.here.cards["running"].key
    assert world.member.post(f"/cards/{running}/retry").refusal == (409, "transition_refused")


def test_the_review_gate_is_for_people(world: World) -> None:
    key = world.here.cards["review"].key
    for caller in (world.member, world.operator, world.root):
        assert caller.post(f"/cards/{key}/approve").refusal == (403, "forbidden")
        refused = caller.post(f"/cards/{key}/reject", {"reason": "no"})
        assert refused.refusal == (403, "forbidden")
    assert world.person.post(f"/cards/{key}/reject", {"reason": "no"})["state"] == "waiting"
    assert world.person.post(f"/cards/{key}/approve").refusal == (409, "transition_refused")


def test_a_person_approves_a_card_in_review(world: World) -> None:
    key = world.here.cards["review"].key
    assert world.person.post(f"/cards/{key}/approve")["state"] == "completed"


def test_an_artifact_is_kept_once_by_its_content(world: World) -> None:
    content = b"a wheel\x00\xff"
    sha = hashlib.sha256(content).hexdigest()
    in_base64 = base64.b64encode(hashlib.sha256(content).digest()).decode()
    first = world.member(
        "post", "/artifacts", content, content_type="text/html", Digest=f"sha-256={in_base64}"
    )
    again = world.member("post", "/artifacts", content, Digest=f"SHA-256={sha}")
    assert (first.status, again.status) == (201, 200)
    assert first["sha256"] == again["sha256"] == sha
    assert first["size_bytes"] == len(content)
    got = world.member.get(f"/artifacts/{sha}")
    assert got.raw == content
    assert got.type == "application/octet-stream", "never shown as what it says it is"
    assert got.headers["Content-Disposition"].startswith("attachment")
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in got.headers["Content-Security-Policy"]


def test_an_upload_with_another_digest_is_refused_and_leaves_nothing(world: World) -> None:
    wrong = "sha-256=" + base64.b64encode(b"\0" * 32).decode()
    refused = world.member("post", "/artifacts", b"bytes", Digest=wrong)
    assert refused.refusal == (422, "invalid")
    sha = hashlib.sha256(b"bytes").hexdigest()
    assert world.member.get(f"/artifacts/{sha}").refusal == (404, "not_found")
    for nonsense in ("md5=abc", "sha-256", "sha-256=", "sha-256=%%%", "sha-256=QQ=="):
        assert world.member("post", "/artifacts", b"x", Digest=nonsense).refusal == (
            400,
            "malformed",
        )


def test_an_artifact_is_read_by_its_uploader_and_where_a_card_links_it(world: World) -> None:
    mine = world.stranger("post", "/artifacts", b"mine alone")["sha256"]
    assert world.stranger.get(f"/artifacts/{mine}").status == 200
    assert world.viewer.get(f"/artifacts/{mine}").refusal == (404, "not_found")
    assert world.viewer.get(f"/artifacts/{world.here.artifact}").status == 200
    assert world.stranger.get(f"/artifacts/{world.here.artifact}").status == 404


def test_workers_say_what_they_hold(world: World) -> None:
    (ada,) = world.viewer.get("/workers")["results"]
    assert (ada["name"], ada["kind"], ada["capabilities"]) == ("ada", "agent", ["python"])
    assert [a["id"] for a in ada["attempts"]] == [str(world.here.attempt.pk)]
    assert INSTANT.fullmatch(ada["last_seen_at"])
    assert world.viewer.get("/workers/ada").json == ada
    assert world.viewer.get(f"/workers/{ada['id']}").json == ada
    assert world.viewer.get("/workers/eve").refusal == (404, "not_found")


def test_me_is_who_the_token_stands_for(world: World) -> None:
    me = world.member.get("/me")
    assert (me["kind"], me["scopes"]) == ("token", ["viewer", "member"])
    assert (me["everywhere"], world.root.get("/me")["everywhere"]) == (None, "operator")
    assert [(b["key"], b["role"]) for b in me["boards"]] == [("HERE", "member")]
    root = world.root.get("/me")
    assert root["scopes"] == ["viewer", "member", "operator"]
    assert {"HERE", "THERE"} <= {b["key"] for b in root["boards"]}
    assert world.person.get("/me")["kind"] == "user"


def test_a_token_is_shown_once_and_worthless_once_revoked(world: World) -> None:
    made = world.person.post("/tokens", {"name": "ci", "board": "HERE", "role": "viewer"})
    assert made.status == 201
    client = world.member.client
    header = {"Authorization": f"Bearer {made['token']}"}
    assert client.get("/api/v1/cards/HERE-1", headers=header).status_code == 200
    assert client.post("/api/v1/cards", {}, headers=header).status_code in (403, 415)
    assert world.person.delete(f"/tokens/{made['id']}").status == 204
    assert client.get("/api/v1/cards/HERE-1", headers=header).status_code == 401


def test_a_card_is_rewound_forked_and_raced_and_its_checkpoints_compared(world: World) -> None:
    made = world.member.post(
        "/cards", {"board": "HERE", "title": "Go back", "column": "In progress"}
    )
    key = made["key"]
    claim = world.member.post("/claims", {"worker": "ada", "card": key})
    at, lease = f"/attempts/{claim['attempt']['id']}", claim["lease"]["token"]
    for n in (1, 2, 3):
        body = {"key": f"s{n}", "status": "succeeded", "result": n}
        body["checkpoint"] = {"summary": f"{n}", "state": {"n": n}}
        assert world.member.post(f"{at}/steps", body, lease=lease).status == 201
    diff = world.member.get(f"/cards/{key}/checkpoints/3/diff?from=1")
    assert (diff["from"], diff["to"]) == (1, 3)
    assert diff["state"] == [{"path": "/n", "op": "replace", "from": 1, "to": 3}]
    assert diff["workspace"] is None
    assert world.member.get(f"/cards/{key}/checkpoints/1/diff")["from"] is None
    assert world.member.get(f"/cards/{key}/checkpoints/3/diff")["from"] == 2
    assert world.member.get(f"/cards/{key}/checkpoints/9/diff").status == 404
    assert world.member.get(f"/cards/{key}/checkpoints/3/diff?from=x").status == 422

    rewound = world.member.post(f"/cards/{key}/rewind", {"checkpoint": 1})
    assert (rewound.status, rewound["state"], rewound["line"]) == (200, "waiting", 2)
    late = world.member.post(f"{at}/heartbeat", lease=lease)
    assert late.refusal == (409, "lease_lost")
    again = world.member.post("/claims", {"worker": "bob", "card": key})
    assert again["resume"]["checkpoint"]["number"] == 1
    assert again["resume"]["steps_done"] == 1
    assert world.member.post(f"/cards/{key}/rewind", {"checkpoint": 7}).refusal == (422, "invalid")

    fork = world.member.post(f"/cards/{key}/fork", {"checkpoint": 2, "title": "Other"}, key="once")
    assert (fork.status, fork["title"], len(fork["cards"])) == (201, "Other", 1)
    replay = world.member.post(
        f"/cards/{key}/fork", {"checkpoint": 2, "title": "Other"}, key="once"
    )
    assert replay["key"] == fork["key"]
    begun = world.member.post("/claims", {"worker": "cy", "card": fork["key"]})
    assert (begun["resume"]["checkpoint"]["number"], begun["resume"]["steps_done"]) == (2, 2)

    race = world.member.post(f"/cards/{key}/fork", {"checkpoint": 2, "count": 2})
    first, second = (card["key"] for card in race["cards"])
    assert race["race"] is not None
    won = world.member.post("/claims", {"worker": "di", "card": second})
    end = f"/attempts/{won['attempt']['id']}/complete"
    assert world.member.post(end, {"summary": "done"}, lease=won["lease"]["token"]).status == 200
    assert world.member.get(f"/cards/{first}")["state"] == "cancelled"
    assert world.viewer.post(f"/cards/{key}/rewind", {"checkpoint": 1}).status == 403
    assert world.viewer.post(f"/cards/{key}/fork", {"checkpoint": 1}).status == 403
    assert world.member.post(f"/cards/{key}/fork", {"checkpoint": 2, "count": 99}).status == 422
