"""The worker side of the contract, call by call."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import time_machine

from boards import leases
from boards.models import Attempt, Card
from tests.api.world import Answer, World


class Holder:
    """A worker with a claim, making its calls under the lease."""

    def __init__(self, world: World, claim: Answer) -> None:
        self.world = world
        self.claim = claim
        self.card: str = claim["card"]["key"]

    def __call__(self, path: str, body: Any = None, **options: Any) -> Answer:
        attempt = self.claim["attempt"]["id"]
        options.setdefault("lease", self.claim["lease"]["token"])
        return self.world.member.post(f"/attempts/{attempt}{path}", body, **options)

    def describe(self, **body: str) -> Answer:
        path = f"/attempts/{self.claim['attempt']['id']}"
        return self.world.member.patch(path, body, lease=self.claim["lease"]["token"])


def claim(world: World, **body: Any) -> Holder:
    taken = world.member.post("/claims", {"worker": "ada-7", "boards": ["HERE"], **body})
    assert taken.status == 201, taken
    return Holder(world, taken)


@pytest.fixture
def held(world: World) -> Holder:
    return claim(world, card=world.here.cards["waiting"].key)


def test_a_claim_says_everything_a_worker_needs(world: World) -> None:
    taken = world.member.post("/claims", world.example("claim_card"))
    assert taken.status == 201
    attempt, lease = taken["attempt"], taken["lease"]
    assert attempt["number"] == lease["fence"] == 1
    assert (attempt["worker"], attempt["status"]) == ("ada-7", "running")
    assert (lease["ttl_seconds"], len(lease["token"]) > 40) == (60, True)
    assert taken["card"]["state"] == "running"
    assert taken["card"]["attempt"]["id"] == attempt["id"]
    assert taken["goal"]["criteria"][0]["text"] == "tests pass"
    assert taken["resume"] == {"checkpoint": None, "steps_done": 0, "in_doubt": []}
    assert {"markdown", "tokens"} <= set(taken["briefing"])
    told = taken["briefing"]["markdown"].encode()
    assert attempt["briefing_sha256"] == hashlib.sha256(told).hexdigest()
    worker = world.viewer.get("/workers/ada-7")
    assert worker["capabilities"] == ["python"]


def test_who_may_only_look_on_may_not_claim(world: World) -> None:
    for boards in (["HERE"], None, []):
        refused = world.viewer.post("/claims", {"worker": "ada-7", "boards": boards})
        assert refused.refusal == (403, "forbidden")


def test_a_call_that_comes_after_the_sweep_is_taken_while_nobody_has_the_card(
    held: Holder, world: World
) -> None:
    with time_machine.travel("2099-01-01", tick=False):
        leases.expire_lapsed()
        assert world.viewer.get(f"/cards/{held.card}")["state"] == "waiting"
        assert held("/steps", {"key": "a b"}).refusal == (422, "invalid")
        assert world.viewer.get(f"/cards/{held.card}")["state"] == "waiting"
        assert held("/steps", {"key": "late"}).status == 201
        again = world.viewer.get(f"/cards/{held.card}")
        assert (again["state"], again["attempt"]["number"]) == ("running", 1)
        assert held("/complete", {"summary": "done"})["card"]["state"] == "completed"


def test_a_claim_resumes_where_the_last_attempt_stopped(world: World) -> None:
    with time_machine.travel("2099-01-01", tick=False):
        resume = claim(world, card=world.here.cards["running"].key).claim["resume"]
    assert resume["checkpoint"]["number"] == 2
    assert resume["checkpoint"]["summary"] == "half way"
    assert resume["steps_done"] == 1
    assert resume["in_doubt"] == ["build/wheel"]


def test_nothing_to_do_is_204_with_a_hint_when_to_ask_again(world: World) -> None:
    for key in ("waiting",):
        world.member.post(f"/cards/{world.here.cards[key].key}/pause")
    nothing = world.member.post("/claims", {"worker": "ada-7", "wait_seconds": 0})
    assert (nothing.status, nothing.raw) == (204, b"")
    assert int(nothing.headers["Retry-After"]) > 0


@pytest.mark.parametrize("name", ["running", "backlog", "blocked", "review", "completed"])
def test_a_named_card_that_cant_be_taken_says_why(name: str, world: World) -> None:
    body = {"worker": "ada-7", "card": world.here.cards[name].key}
    refused = world.member.post("/claims", body)
    assert refused.refusal == (409, "not_claimable")
    assert world.here.cards[name].key in refused["detail"]


def test_what_a_card_requires_the_worker_must_have(world: World) -> None:
    Card.objects.filter(key=world.here.cards["waiting"].key).update(requires=["gpu"])
    body = {"worker": "ada-7", "card": world.here.cards["waiting"].key}
    assert world.member.post("/claims", body).refusal == (409, "not_claimable")
    assert claim(world, capabilities=["gpu", "python"]).card == world.here.cards["waiting"].key


def test_the_most_urgent_card_goes_first(world: World) -> None:
    urgent = world.member.post(
        "/cards", {"board": "HERE", "title": "now", "column": "in_progress", "priority": 0}
    )
    assert claim(world).card == urgent["key"]


def test_a_board_on_auto_gives_from_its_backlog(world: World) -> None:
    world.operator.patch("/boards/HERE", {"pull": "auto"})
    world.member.post(f"/cards/{world.here.cards['waiting'].key}/pause")
    assert claim(world).card == world.here.cards["backlog"].key


@pytest.mark.parametrize("seconds", [2, 3600])
def test_a_lease_lasts_from_2_to_3600_seconds(seconds: int, world: World) -> None:
    held = claim(world, lease_seconds=seconds)
    assert held.claim["lease"]["ttl_seconds"] == seconds
    assert held("/heartbeat")["ttl_seconds"] == seconds
    for wrong in (1, 3601, -5, "60s", 2.5, True):
        body = {"worker": "b", "lease_seconds": wrong}
        assert world.member.post("/claims", body).refusal == (422, "invalid"), wrong


def test_a_claim_is_for_a_token_with_the_role(world: World) -> None:
    body = {"worker": "ada-7", "boards": ["HERE"]}
    assert world.viewer.post("/claims", body).refusal == (403, "forbidden")
    assert world.stranger.post("/claims", body).refusal == (404, "not_found")
    assert world.person.post("/claims", body).refusal == (403, "forbidden")


def test_a_claim_without_boards_stays_on_the_tokens_boards(world: World) -> None:
    world.member.post(f"/cards/{world.here.cards['waiting'].key}/pause")
    assert world.member.post("/claims", {"worker": "ada-7"}).status == 204


def test_a_heartbeat_renews_and_brings_the_news(held: Holder, world: World) -> None:
    beat = held("/heartbeat", {"note": "compiling", "percent": 40})
    assert beat.status == 200
    assert (beat["directive"], beat["messages"], beat["notices"]) == ("continue", [], [])
    card = world.viewer.get(f"/cards/{held.card}")
    assert (card["attempt"]["note"], card["attempt"]["percent"]) == ("compiling", 40)
    said = world.person.post(f"/cards/{held.card}/messages", {"text": "mind the gap"})
    world.person.patch(f"/goals/{world.here.goal.pk}", {"intent": "something else"})
    world.person.post(f"/cards/{held.card}/pause")
    for _ in range(2):  # again until acknowledged
        beat = held("/heartbeat")
        assert beat["directive"] == "pause"
        assert [m["text"] for m in beat["messages"]] == ["mind the gap"]
        assert [n["kind"] for n in beat["notices"]] == ["goal_amended"]
    held("/heartbeat", {"seen_message": said["id"]})
    assert held("/heartbeat")["messages"] == []


def test_an_approach_shows_the_failed_ones_it_resembles(world: World) -> None:
    key = world.here.cards["waiting"].key
    first = claim(world, card=key)
    first.describe(approach="retry the request with a longer timeout")
    first("/fail", {"error": "still slow", "lesson": "the server never answers"})
    world.member.post(f"/cards/{key}/retry")
    second = claim(world, card=key)
    shown = second.describe(approach="retry the request with longer timeout")
    assert shown.status == 200
    (alike,) = shown["similar_failed"]
    assert (alike["attempt"], alike["lesson"]) == (1, "the server never answers")
    world.operator.patch("/boards/HERE", {"enforce_dead_ends": True})
    refused = second.describe(approach="retry the request with longer timeout")
    assert refused.refusal == (409, "dead_end")
    assert refused["similar_failed"][0]["attempt"] == 1
    assert (
        second.describe(
            approach="retry the request with longer timeout", differs="over IPv4"
        ).status
        == 200
    )


def test_a_step_begins_and_finishes_with_its_checkpoint(held: Holder, world: World) -> None:
    begun = held("/steps", {"key": "lint", "title": "Lint", "kind": "run", "input": {"a": 1}})
    assert (begun.status, begun["status"], begun["in_doubt"]) == (201, "started", False)
    assert "replay" not in begun.json
    again = held("/steps", {"key": "lint"})
    assert (again.status, again["status"]) == (201, "started"), "begun, not yet recorded"
    done = held("/steps/lint/finish", world.example("finish_step"))
    assert (done.status, done["status"], done["result"]) == (200, "succeeded", {"passed": 3})
    assert done["usage"] == {
        "input_tokens": 5,
        "output_tokens": 6,
        "cost_usd": "0.250000",
        "model": "m-1",
    }
    assert done["checkpoint"]["number"] == 1
    assert done["checkpoint"]["after_step"] == done["number"]
    assert done["checkpoint"]["tests"]["failing"] == ["test_a"]
    card = world.viewer.get(f"/cards/{held.card}")
    assert card["counts"] == {"attempts": 1, "steps": 1, "checkpoints": 1, "failures": 0}
    decided = world.viewer.get(f"/goals/{world.here.goal.pk}/decisions")["results"][0]
    assert (decided["title"], decided["card"]) == ("use a queue", card["id"])


def test_a_recorded_step_is_given_back_and_not_run_again(held: Holder) -> None:
    once = held("/steps", {"key": "lint", "status": "succeeded", "result": [1]})
    assert once.status == 201
    again = held("/steps", {"key": "lint"})
    assert (again.status, again["replay"], again["result"]) == (200, True, [1])
    same = held("/steps", {"key": "lint", "status": "succeeded", "result": [1]})
    assert (same.status, same["replay"]) == (200, True)
    assert held("/steps/lint/finish", {"status": "succeeded", "result": [1]}).status == 200
    other = held("/steps/lint/finish", {"status": "succeeded", "result": [2]})
    assert other.refusal == (409, "step_conflict")
    assert held("/steps", {"key": "lint", "status": "failed"}).refusal == (409, "step_conflict")


def test_a_step_that_an_earlier_attempt_never_ended_is_in_doubt(world: World) -> None:
    key = world.here.cards["running"].key
    with time_machine.travel("2099-01-01", tick=False):
        second = claim(world, card=key)
        tested = second("/steps", {"key": "test"})
        assert (tested.status, tested["replay"], tested["result"]) == (200, True, {"passed": 3})
        built = second("/steps", {"key": "build/wheel"})
        assert (built.status, built["in_doubt"]) == (201, True)


def test_a_failed_step_may_be_tried_by_the_next_attempt(world: World) -> None:
    key = world.here.cards["waiting"].key
    first = claim(world, card=key)
    first("/steps", {"key": "lint", "status": "failed", "error": "E501"})
    first("/release", {"summary": "stopping", "next_step": "lint again"})
    second = claim(world, card=key)
    begun = second("/steps", {"key": "lint"})
    assert (begun.status, begun["status"], begun["in_doubt"]) == (201, "started", False)


def test_a_step_that_depends_on_its_input_refuses_another(held: Holder) -> None:
    body = {"key": "lint", "status": "succeeded", "input": {"v": 1}}
    assert held("/steps", body).status == 201
    other = held("/steps", {"key": "lint", "input": {"v": 2}, "depends_on_input": True})
    assert other.refusal == (409, "step_conflict")
    assert held("/steps", {"key": "lint", "input": {"v": 2}}).status == 200


@pytest.mark.parametrize("key", ["a", "a/b:c@d.e_f-g", "Z" * 200, "..", "a//b", "/", "finish"])
def test_step_keys_travel_percent_encoded_in_paths(key: str, held: Holder) -> None:
    assert held("/steps", {"key": key}).status == 201
    for encoded in (key.replace("/", "%2F"), key):
        done = held(f"/steps/{encoded}/finish", {"status": "succeeded"})
        assert (done.status, done["key"]) == (200, key)


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "é", "a?b", "a%2Fb", "x" * 201, "a\\b"])
def test_other_keys_are_refused(key: str, held: Holder) -> None:
    assert held("/steps", {"key": key}).refusal == (422, "invalid")
    assert held("/checkpoints", {"key": key, "summary": "s"}).refusal == (422, "invalid")


def test_finishing_a_step_nobody_began_is_404(held: Holder) -> None:
    assert held("/steps/lint/finish", {"status": "succeeded"}).refusal == (404, "not_found")


def test_a_beginning_brings_no_result(held: Holder) -> None:
    refused = held("/steps", {"key": "lint", "result": {"x": 1}})
    assert refused.refusal == (422, "invalid")
    assert "result" in refused["errors"]


def test_checkpoints_are_numbered_per_card_and_chained(held: Holder, world: World) -> None:
    first = held("/checkpoints", {"summary": "one"})
    second = held("/checkpoints", {**world.example("save_checkpoint")})
    assert (first.status, first["number"], first["parent"]) == (201, 1, None)
    assert (second["number"], second["parent"]) == (2, first["id"])
    same = held("/checkpoints", {**world.example("save_checkpoint")})
    assert (same.status, same.json) == (200, second.json)
    other = held("/checkpoints", {"key": "green", "summary": "else"})
    assert other.refusal == (409, "step_conflict")
    listed = world.viewer.get(f"/cards/{held.card}/checkpoints")["results"]
    assert [c["number"] for c in listed] == [2, 1]


def test_a_checkpoint_names_artifacts_that_are_stored(held: Holder) -> None:
    files = [{"name": "x", "sha256": "0" * 64}]
    refused = held("/checkpoints", {"summary": "s", "artifacts": files})
    assert refused.refusal == (422, "invalid")
    assert "artifacts[0].sha256" in refused["errors"]


def test_live_output_is_appended(held: Holder) -> None:
    for text in ("", "  a\n", "b\n"):
        assert held("/log", {"stream": "stdout", "text": text}).status == 201
    assert held("/log", {"stream": "stdin", "text": "x"}).refusal == (422, "invalid")


def test_memory_is_kept_on_the_goal(held: Holder, world: World) -> None:
    decided = held("/decisions", world.example("record_decision"))
    found = held("/discoveries", world.example("record_discovery"))
    assert (decided.status, found.status) == (201, 201)
    assert decided["goal"] == found["goal"] == str(world.here.goal.pk)
    assert decided["attempt"] == held.claim["attempt"]["id"]
    assert found["status"] == "open"


def test_follow_up_work_joins_the_goal_within_the_budget(held: Holder, world: World) -> None:
    world.operator.patch("/boards/HERE", {"defaults": {"follow_ups": 2}})
    example = world.example("propose_card")
    planned = {"plan", "ref", "workflow"}
    proposed = held("/cards", {k: v for k, v in example.items() if k not in planned})
    assert proposed.status == 201
    assert (proposed["goal"], proposed["state"]) == (str(world.here.goal.pk), "backlog")
    assert proposed["created_by"] == "worker:ada-7"
    assert held("/cards", {"title": "two"}).status == 201
    assert held("/cards", {"title": "three"}).refusal == (422, "budget_exceeded")


def test_completing_finishes_the_card_with_its_evidence(held: Holder, world: World) -> None:
    done = held("/complete", world.example("complete_attempt"))
    assert (done.status, done["attempt"]["status"]) == (200, "succeeded")
    assert done["card"]["state"] == "completed"
    criterion = world.viewer.get(f"/goals/{world.here.goal.pk}")["criteria"][0]
    assert criterion["met"] is True
    assert criterion["evidence"][0]["detail"] == "see log"
    assert held("/complete", {"summary": "again"}).status == 200
    assert held("/heartbeat").refusal == (409, "lease_lost")
    assert held("/fail", {"error": "no"}).refusal == (409, "lease_lost")


def test_done_means_recorded(held: Holder) -> None:
    for body in ({}, {"summary": ""}, {"summary": "  "}):
        assert held("/complete", body).refusal == (422, "invalid")


def test_a_card_under_review_waits_for_a_person(held: Holder, world: World) -> None:
    world.member.patch(f"/cards/{held.card}", {"review_required": True})
    assert held("/complete", {"summary": "done"})["card"]["state"] == "review"


def test_failing_backs_off_and_finally_blocks(world: World) -> None:
    key = world.here.cards["waiting"].key
    world.member.patch(f"/cards/{key}", {"max_attempts": 2})
    first = claim(world, card=key)
    failed = first("/fail", {"error": "no disk", "lesson": "clean"})
    assert (failed["attempt"]["status"], failed["card"]["state"]) == ("failed", "waiting")
    assert failed["card"]["not_before_at"] > failed["attempt"]["finished_at"]
    assert first("/fail", {"error": "no disk"}).status == 200, "the same end again"
    with time_machine.travel("2099-01-01", tick=False):
        second = claim(world, card=key)
        blocked = second("/fail", {"error": "no disk"})["card"]
    assert (blocked["state"], "no disk" in blocked["blocked_reason"]) == ("blocked", True)


def test_a_failure_that_no_retry_helps_blocks_at_once(held: Holder) -> None:
    assert held("/fail", {"error": "no key", "retryable": False})["card"]["state"] == "blocked"


def test_blocking_asks_a_person(held: Holder, world: World) -> None:
    blocked = held("/block", world.example("block_attempt"))
    assert (blocked["card"]["state"], blocked["card"]["blocked_reason"]) == (
        "blocked",
        "need a key",
    )
    (question,) = world.viewer.get(f"/cards/{held.card}/messages")["results"]
    assert (question["text"], question["options"]) == ("Which?", ["a", "b"])
    assert held("/block", world.example("block_attempt")).status == 200


def test_releasing_hands_over_at_once_and_counts_as_no_failure(held: Holder, world: World) -> None:
    released = held("/release", {"summary": "half", "next_step": "rest"})
    assert (released["attempt"]["status"], released["card"]["state"]) == ("released", "waiting")
    assert released["card"]["counts"]["failures"] == 0
    assert claim(world, card=held.card).claim["lease"]["fence"] == 2


def test_a_rate_limited_worker_gives_the_card_time(held: Holder) -> None:
    body = {"summary": "half", "next_step": "rest", "reason": "rate_limited"}
    card = held("/release", {**body, "retry_after_seconds": 30})["card"]
    assert (card["state"], card["reason"]) == ("waiting", "backoff")


def test_a_superseded_attempt_may_salvage_and_nothing_else(held: Holder, world: World) -> None:
    world.person.post(f"/cards/{held.card}/move", {"column": "backlog"})
    before = world.viewer.get(f"/cards/{held.card}").json
    assert held("/salvage", world.example("salvage_attempt")).status == 201
    assert world.viewer.get(f"/cards/{held.card}").json == before


def test_a_late_call_by_a_holder_nobody_replaced_is_taken(held: Holder) -> None:
    with time_machine.travel("2099-01-01", tick=False):
        assert held("/heartbeat").status == 200
        assert held("/complete", {"summary": "slow but done"}).status == 200
    assert Attempt.objects.get(pk=held.claim["attempt"]["id"]).status == "succeeded"


def test_the_lease_token_is_needed_and_opens_one_attempt(held: Holder, world: World) -> None:
    attempt = held.claim["attempt"]["id"]
    bare = world.member.post(f"/attempts/{attempt}/heartbeat")
    assert bare.refusal == (400, "malformed")
    for wrong in (world.here.lease, "x", held.claim["lease"]["token"][:-1] + "!", "hfl_", "é"):
        assert held("/heartbeat", lease=wrong).refusal == (409, "lease_lost")


@pytest.mark.parametrize("seconds", ["nan", "inf", "1", -1, 61, True, None, 1e300])
def test_a_claim_waits_a_number_of_seconds(seconds: object, world: World) -> None:
    body = {"worker": "ada-7", "card": world.here.cards["waiting"].key, "wait_seconds": seconds}
    answer = world.member.post("/claims", body)
    assert answer.status == (201 if seconds is None else 422)
