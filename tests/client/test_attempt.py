"""Attempts and steps against a real server."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import pytest

import holdfast
from tests.client.conftest import Sent
from tests.client.desk import Desk
from tests.serving import until


def boom() -> None:
    raise AssertionError("a recorded step was run again")


def test_a_card_from_claim_to_completed(desk: Desk, client: holdfast.Client):
    goal = desk.site.call(
        "POST", "/api/v1/goals", {"board": desk.board, "title": "Know it all"}
    ).body["id"]
    key = desk.card("Find out", goal=goal)
    with client.claim(worker="ada", card=key) as attempt:
        assert attempt.card["key"] == key
        assert "Find out" in attempt.briefing
        assert attempt.state is None
        assert attempt.approach("By reading")["similar_failed"] == []
        assert attempt.step("read", lambda: {"pages": 3}) == {"pages": 3}
        attempt.log("reading\0 \ud800 …", step="read")
        attempt.checkpoint("Read it", next_step="Tell", state={"page": 3})
        attempt.decision("Read from the back", "It is shorter.", alternatives=["the front"])
        attempt.discovery("fact", "The end is good")
        attempt.propose("Read it again")
        attempt.heartbeat("nearly there", percent=90)
        done = attempt.complete("It is good.", result={"good": True})
    assert done["card"]["state"] == "completed"
    assert attempt.ended == "complete"
    memory = desk.get(f"/goals/{goal}/decisions")["results"]
    assert [d["title"] for d in memory] == ["Read from the back"]
    (point,) = desk.get(f"/cards/{key}/checkpoints")["results"]
    assert (point["summary"], point["state"]) == ("Read it", {"page": 3})


def test_nothing_to_do_is_none(desk: Desk, client: holdfast.Client):
    assert client.claim(worker="ada") is None


def test_a_named_card_that_can_not_be_taken_is_a_conflict(desk: Desk, client: holdfast.Client):
    key = desk.card()
    assert client.claim(worker="ada", card=key)
    with pytest.raises(holdfast.Conflict) as refused:
        client.claim(worker="bob", card=key)
    assert refused.value.code == "not_claimable"


def test_a_step_is_two_requests_and_its_replay_one(desk, client, sent: Sent):
    key = desk.card()
    ran = []
    with client.claim(worker="ada", card=key) as attempt:
        del sent.all[:]
        assert attempt.step("a/b-c", lambda: ran.append(1) or (1, 2)) == [1, 2]
        assert [s[0] for s in sent.work()] == ["POST", "POST"]
        attempt.release("Not mine.")
    with client.claim(worker="bob", card=key) as attempt:
        del sent.all[:]
        assert attempt.step("a/b-c", boom) == [1, 2]
        assert sent.work() == [("POST", "steps", 200)]
        del sent.all[:]
        with attempt.step("more") as step:
            step.result = 3
            step.usage = {"input_tokens": 7, "model": "none"}
            step.checkpoint("Half of it", next_step="The rest", state=[1])
        assert len(sent.work()) == 2  # the checkpoint goes along
        assert (step.result, step.replayed, step.in_doubt) == (3, False, False)
        attempt.complete("done")
    assert ran == [1]
    assert desk.steps(key) == [("a/b-c", "succeeded"), ("more", "succeeded")]


@holdfast.step
def squared(number: int, *, twice: bool = False) -> Any:
    CALLS.append(number)
    return number * number * (2 if twice else 1)


CALLS: list[int] = []


def test_a_decorated_function_is_remembered_by_its_arguments(desk, client):
    key = desk.card()
    del CALLS[:]
    with client.claim(worker="ada", card=key) as attempt:
        assert [squared(2), squared(3), squared(2), squared(2, twice=True)] == [4, 9, 4, 8]
        assert CALLS == [2, 3, 2]

        @attempt.step
        def greeting() -> str:
            CALLS.append(0)
            return "hello"

        @attempt.step("named", title="A better name")
        def other() -> tuple[int, int]:
            return 1, 2

        assert [greeting(), greeting()] == ["hello", "hello"]
        assert other() == [1, 2]
        attempt.complete("done")
    found = desk.get(f"/cards/{key}/steps")["results"]
    titles = {step["key"].partition(":")[0]: step["title"] for step in found}
    assert titles == {"named": "A better name", "greeting": "", "squared": "squared(2)"}
    assert CALLS == [2, 3, 2, 0]


def test_a_step_outside_of_an_attempt_says_so():
    with pytest.raises(holdfast.Error, match="with attempt"):
        squared(2)


def test_arguments_that_can_not_name_a_step_are_refused_before_it_runs(desk, client):
    desk.card()
    with client.claim(worker="ada") as attempt:
        with pytest.raises(holdfast.Error, match="key of your own"):
            squared(object())
        attempt.complete("done")


def test_a_step_that_was_cut_off_is_in_doubt_for_the_next(desk, client):
    key = desk.card()
    with pytest.raises(KeyboardInterrupt):
        with client.claim(worker="ada", card=key) as attempt:
            with attempt.step("pay"):
                raise KeyboardInterrupt
    assert desk.attempts(key)[0]["status"] == "released"
    with client.claim(worker="bob", card=key) as attempt:
        assert attempt.in_doubt == ["pay"]
        with attempt.step("pay") as step:
            assert step.in_doubt
            assert not step.replayed
            step.result = "looked: it was paid"
        attempt.complete("done")


def test_a_step_that_fails_is_recorded_and_fails_the_attempt(desk, client):
    key = desk.card()
    with pytest.raises(ZeroDivisionError):
        with client.claim(worker="ada", card=key) as attempt:
            with attempt.step("divide"):
                1 / 0  # noqa: B018
    (tried,) = desk.attempts(key)
    assert tried["status"] == "failed"
    assert "ZeroDivisionError: division by zero\nat " in tried["error"]
    assert desk.steps(key) == [("divide", "failed")]


def test_a_failed_step_stays_failed_for_its_attempt(desk, client):
    key = desk.card()
    with client.claim(worker="ada", card=key) as attempt:
        with pytest.raises(ZeroDivisionError):
            attempt.step("divide", lambda: 1 / 0)
        with pytest.raises(holdfast.StepFailed, match="division by zero"):
            attempt.step("divide", boom)
        attempt.complete("without it")
    assert desk.steps(key) == [("divide", "failed")]


@pytest.mark.parametrize(
    "ugly",
    [object(), float("inf"), "\0", 2**70, "x" * 1_100_000],
    ids=["object", "inf", "nul", "big", "long"],
)
def test_a_result_that_can_not_be_kept_fails_the_step(desk, client, ugly):
    key = desk.card()
    with client.claim(worker="ada", card=key) as attempt:
        with pytest.raises(holdfast.Error):
            attempt.step("ugly", lambda: ugly)
        attempt.complete("anyway")
    assert desk.steps(key) == [("ugly", "failed")]


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 201])
def test_a_key_that_can_not_be_is_refused_before_it_runs(desk, client, key):
    desk.card()
    with client.claim(worker="ada") as attempt:
        with pytest.raises(holdfast.Refused):
            attempt.step(key, boom)
        attempt.complete("done")


@pytest.mark.parametrize("key", [".", "..", "a/../b", "a:b@c/-41", "x" * 200])
def test_any_key_that_can_be_can_be_finished(desk, client, key):
    card = desk.card()
    with client.claim(worker="ada", card=card) as attempt:
        assert attempt.step(key, lambda: 1) == 1
        attempt.complete("done")
    assert desk.steps(card) == [(key, "succeeded")]


def test_leaving_without_an_end_releases_for_later(desk, client):
    key = desk.card()
    with client.claim(worker="ada", card=key):
        pass
    assert desk.attempts(key)[0]["status"] == "released"
    assert client.claim(worker="ada") is None  # not at once, or it would be left without end


def test_after_the_end_nothing_more_can_be_said(desk, client, sent: Sent):
    desk.card()
    with client.claim(worker="ada") as attempt:
        attempt.block("Which colour?", question="Red or blue?", options=["red", "blue"])
        del sent.all[:]
        with pytest.raises(holdfast.Error, match="ended with block"):
            attempt.log("late")
    assert sent.work() == []


# Leases.


def test_the_lease_is_kept_while_the_main_thread_is_blocked(desk, client):
    key = desk.card()
    with client.claim(worker="ada", card=key, lease_seconds=6) as attempt:
        time.sleep(8)
        with pytest.raises(holdfast.Conflict):
            client.claim(worker="bob", card=key)
        attempt.complete("done")
    assert len(desk.attempts(key)) == 1


async def test_the_lease_is_kept_while_the_event_loop_is_blocked(desk: Desk):
    key = desk.card()
    async with desk.aclient() as client:
        async with await client.claim(worker="ada", card=key, lease_seconds=6) as attempt:
            time.sleep(8)
            with pytest.raises(holdfast.Conflict):
                await client.claim(worker="bob", card=key)
            await attempt.complete("done")
    assert len(desk.attempts(key)) == 1


def test_a_lost_lease_is_raised_once_and_nothing_more_is_said(desk, client, sent: Sent):
    key = desk.card()
    stale = client.claim(worker="ada", card=key, lease_seconds=2)
    time.sleep(2.5)  # nobody keeps it: its block was not entered
    fresh = client.claim(worker="bob", card=key)
    with pytest.raises(holdfast.LeaseLost) as lost:
        with stale:
            del sent.all[:]
            stale.step("mine", boom)
    assert lost.value.code == "lease_lost"
    assert sent.work() == [("POST", "steps", 409)]
    with pytest.raises(holdfast.LeaseLost):
        stale.complete("late")
    assert len(sent.work()) == 1
    assert stale.salvage("What I had")["summary"] == "What I had"
    with fresh:
        fresh.complete("done")
    assert [a["status"] for a in desk.attempts(key)] == ["succeeded", "expired"]


def test_a_lease_that_the_heartbeat_finds_lost_is_raised_by_the_next_call(desk, client, sent):
    key = desk.card()
    with pytest.raises(holdfast.LeaseLost):
        with client.claim(worker="ada", card=key, lease_seconds=2) as attempt:
            desk.steer(key, "cancel")
            until(lambda: attempt.lost)
            del sent.all[:]
            attempt.step("mine", boom)
    assert sent.all == []


def test_a_lease_lost_in_silence_is_raised_on_leaving(desk, client, sent):
    key = desk.card()
    with pytest.raises(holdfast.LeaseLost):
        with client.claim(worker="ada", card=key, lease_seconds=2) as attempt:
            desk.steer(key, "cancel")
            until(lambda: attempt.lost)
            del sent.all[:]
    assert sent.all == []


def test_a_lease_loss_that_was_caught_is_not_raised_again_on_leaving(desk, client):
    key = desk.card()
    with client.claim(worker="ada", card=key) as attempt:
        desk.steer(key, "cancel")
        with pytest.raises(holdfast.LeaseLost):
            attempt.log("x")


def test_a_pause_is_heeded_before_the_next_step(desk, client):
    key = desk.card()
    with pytest.raises(holdfast.Handover) as asked:
        with client.claim(worker="ada", card=key, lease_seconds=2) as attempt:
            attempt.step("first", lambda: 1)
            desk.steer(key, "pause")
            until(lambda: attempt.should_stop)
            attempt.step("second", boom)
    assert asked.value.reason == "pause"
    assert desk.attempts(key)[0]["status"] == "released"
    assert desk.steps(key) == [("first", "succeeded")]
    assert desk.get(f"/cards/{key}")["reason"] == "paused"


def test_what_people_say_arrives_once(desk, client):
    key = desk.card()
    with client.claim(worker="ada", card=key, lease_seconds=2) as attempt:
        for text in ("one", "two"):
            desk.site.call("POST", f"/api/v1/cards/{key}/messages", {"text": text})
        until(lambda: len(attempt.messages) >= 2)
        attempt.heartbeat()
        attempt.heartbeat()
        assert [m["text"] for m in attempt.messages] == ["one", "two"]
        attempt.complete("done")


# The loop.


def test_the_loop_goes_on_whatever_happens_to_an_attempt(desk, client, caplog):
    cards = [desk.card(f"card {n}") for n in range(4)]
    fates = iter(["raise", "lose", "pause", "complete"])
    stop = threading.Event()
    for attempt in client.work("ada", lease_seconds=2, wait_seconds=1, stop=stop):
        with attempt:
            match next(fates):
                case "raise":
                    raise ValueError("such is life")
                case "lose":
                    desk.steer(attempt.card["key"], "cancel")
                    attempt.step("mine", boom)
                case "pause":
                    desk.steer(attempt.card["key"], "pause")
                    until(partial(getattr, attempt, "should_stop"))
                    attempt.step("mine", boom)
                case "complete":
                    attempt.complete("done")
                    stop.set()
    last = [desk.attempts(key)[0]["status"] for key in cards]
    assert last == ["failed", "cancelled", "released", "succeeded"]
    assert "such is life" in caplog.text
    assert "Stop working" in caplog.text


def test_an_idle_loop_stops_when_it_is_told(desk, client):
    stop = threading.Event()
    threading.Timer(1, stop.set).start()
    began = time.monotonic()
    assert list(client.work("ada", wait_seconds=0, stop=stop)) == []
    assert time.monotonic() - began < 60


def test_a_loop_hears_of_a_server_that_refuses_it(desk):
    with holdfast.Client(desk.url, "wrong") as client:
        with pytest.raises(holdfast.Unauthorized):
            next(client.work("ada"))


# Asyncio, where it differs.


@holdfast.step
async def doubled(number: int) -> int:
    return number * 2


async def test_an_async_worker_from_claim_to_completed(desk: Desk, sent: Sent):
    key = desk.card()
    async with desk.aclient() as client:
        assert await client.claim(worker="ada", boards=[desk.board], capabilities=[]) is not None
        assert await client.claim(worker="ada") is None
        key = desk.card("another")
        async for attempt in client.work("ada"):
            async with attempt:
                del sent.all[:]
                assert await attempt.step("sync", lambda: 1) == 1
                assert await doubled(4) == 8
                assert await doubled(4) == 8
                assert len(sent.work()) == 5
                async with attempt.step("block") as step:
                    step.result = {"x": (1,)}
                assert step.result == {"x": [1]}

                @attempt.step("named")
                async def named() -> str:
                    return "yes"

                assert await named() == "yes"
                assert (await attempt.complete("done"))["card"]["state"] == "completed"
            break
    assert [key for key, _ in desk.steps(key)][0::3] == ["sync", "named"]


async def test_an_async_attempt_loses_its_lease_once(desk: Desk, sent: Sent):
    key = desk.card()
    async with desk.aclient() as client:
        with pytest.raises(holdfast.LeaseLost):
            async with await client.claim(worker="ada", card=key, lease_seconds=2) as attempt:
                desk.steer(key, "cancel")
                until(lambda: attempt.lost)
                del sent.all[:]
                await attempt.log("late")
    assert sent.all == []


async def test_an_async_attempt_that_raises_is_failed(desk: Desk):
    key = desk.card()
    async with desk.aclient() as client:
        with pytest.raises(ZeroDivisionError):
            async with await client.claim(worker="ada", card=key) as attempt:
                await attempt.step("divide", lambda: 1 / 0)
    assert desk.attempts(key)[0]["status"] == "failed"
    assert desk.steps(key) == [("divide", "failed")]
