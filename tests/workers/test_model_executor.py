"""Steps at a language model: a scripted one, over HTTP, as its provider would answer."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from boards import cards, leases
from boards.models import Attempt, Card, Message
from checkpoints.models import Step
from goals.models import Decision, Discovery
from kernel.access import SYSTEM
from kernel.errors import LeaseLost
from tests.workbench import Bench, Seat, logged, trees, wait_for
from tests.workers.model_api import KEY, Answer, Api, Request, played, serving
from workers import stopping
from workers.executors.model import endpoint, executor, loop
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)

PROVIDERS = ("openai", "openai-responses", "anthropic")


def step(api: Api, provider: str = "openai", **more: Any) -> dict[str, Any]:
    given = {"model": f"{provider}:scripted", "prompt": "Do it.", "briefing": False, **more}
    return {"key": "it", "llm": given, "env": api.env}


def pieces(card: Card, prefix: str = "turn-") -> list[Step]:
    rows = Step.objects.filter(card=card, key__contains=f"/{prefix}", superseded=False)
    return list(rows.order_by("number"))


def told(api: Api, tool: str) -> list[str]:
    """Return what the model was told of its calls of one tool, in the last request."""
    return [content for name, content in api.requests[-1].results if name == tool]


def take_away() -> None:
    """End the live attempt, from the thread of a server."""
    leases.expire(Attempt.objects.get(status="running").pk, actor=SYSTEM.actor)
    connection.close()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_model_works_with_files_over_each_protocol(bench: Bench, provider: str) -> None:
    script = [
        {
            "text": "First I write.",
            "calls": [
                ("write_file", {"path": "src/a.py", "content": "x = 1\ny = 2\n"}),
                ("edit_file", {"path": "src/a.py", "old": "y = 2", "new": "y = 3"}),
            ],
        },
        {"calls": [("read_file", {"path": "src/a.py", "first_line": 2}), ("list_files", {})]},
        {"calls": [("search_files", {"pattern": "x = (1|2)"}), ("read_file", {"path": "none"})]},
        {"calls": [("run_command", {"command": "echo printed; exit 3"})]},
        {"calls": [("no_such_tool", {}), ("read_file", {"file": "src/a.py"})]},
        {"text": "y is 3 now."},
    ]
    with serving(played(script)) as api:
        card = bench.card(step(api, provider))
        assert bench.run(card) == Outcome.COMPLETED
    (tree,) = trees(card)
    assert (tree / "src/a.py").read_text() == "x = 1\ny = 3\n"
    assert told(api, "read_file")[0] == "src/a.py, lines 2 to 2 of 2:\ny = 3"
    assert told(api, "read_file")[1] == "ERROR: There is no file none."
    assert told(api, "read_file")[2].startswith("ERROR: path is missing; file is unknown")
    assert told(api, "list_files") == ["src/a.py"]
    assert told(api, "search_files") == ["src/a.py:1: x = 1"]
    assert "failed with exit code 3" in told(api, "run_command")[0]
    assert "printed" in told(api, "run_command")[0]
    assert "There is no tool no_such_tool" in told(api, "no_such_tool")[0]

    turns = pieces(card)
    assert [row.key for row in turns] == [f"it/1/turn-{n:04}" for n in range(1, 7)]
    assert {(row.input_tokens, row.output_tokens, row.model) for row in turns} == {
        (100, 10, "scripted")
    }
    assert Attempt.objects.get(card=card).input_tokens == 600
    result = Step.objects.get(card=card, key="it").result
    assert result["outputs"] == {"answer": "y is 3 now."}
    assert (result["turns"], result["calls"]) == (6, 9)
    # One for each of the two changes, one for the command, one for the step.
    assert card.checkpoints.count() == 4
    assert "First I write.\n→ write_file" in logged(card)


def test_a_step_taken_over_asks_for_no_turn_that_is_on_record(bench: Bench) -> None:
    calls = [("write_file", {"path": f"{n}.txt", "content": str(n)}) for n in range(5)]
    lost: list[int] = []

    def script(request: Request) -> Answer:
        if request.done == 3 and not lost:
            lost.append(1)
            take_away()
            return {"hang": True}
        return played([*({"calls": [call]} for call in calls), {"text": "Done."}])(request)

    with serving(script) as api:
        card = bench.card(step(api))
        assert bench.run(card) == Outcome.LOST
        assert api.gone.wait(60)
        assert bench.run(card) == Outcome.COMPLETED
    assert sorted(api.answered) == [0, 1, 2, 3, 4, 5]
    assert {p.name for p in trees(card)[0].glob("*.txt")} == {f"{n}.txt" for n in range(5)}
    assert "Going on after turn 3" in logged(card)
    first, second = Attempt.objects.filter(card=card).order_by("number")
    assert (first.input_tokens, second.input_tokens) == (300, 300)


def test_an_answer_on_record_is_not_asked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> Any:
        raise LeaseLost("killed here")

    with serving(played([{"text": "Done."}])) as api:
        card = bench.card(step(api))
        with monkeypatch.context() as patch:
            patch.setattr(loop.Work, "_ended", lose)
            assert bench.run(card) == Outcome.LOST
        leases.expire(Attempt.objects.get(card=card).pk, actor=SYSTEM.actor)
        assert bench.run(card) == Outcome.COMPLETED
    assert len(api.requests) == 1


def test_a_long_conversation_makes_room_for_a_card_that_waits(bench: Bench, settings: Any) -> None:
    settings.SLICE_SECONDS = 0
    writes = [{"calls": [("run_command", {"command": f"echo {n} >> all.txt"})]} for n in range(3)]
    with serving(played([*writes, {"text": "All are there."}])) as api:
        card = bench.card(step(api))
        waiting = bench.card("true")
        Card.objects.filter(pk=waiting.pk).update(updated_at=timezone.now() - timedelta(minutes=1))
        assert bench.run(card) == Outcome.RELEASED
        attempt = Attempt.objects.get(card=card)
        assert (attempt.reason, len(api.requests)) == ("slice", 1)
        assert bench.run(card) == Outcome.RELEASED
        assert bench.run(waiting) == Outcome.COMPLETED
        assert bench.run(card) == Outcome.COMPLETED
        assert api.answered == [0, 1, 2, 3]
    tree = max(trees(card), key=lambda tree: int(tree.parent.name.rpartition("-")[2]))
    assert (tree / "all.txt").read_text() == "0\n1\n2\n"


def test_a_command_cut_off_is_not_run_again_but_told_of(bench: Bench) -> None:
    command = f"{bench.mark('deployed')}; touch left.txt; sleep 1000"
    script = [{"calls": [("run_command", {"command": command})]}, {"text": "I see."}]
    with serving(played(script)) as api:
        card = bench.card(step(api))
        work = bench.start(card)
        wait_for(lambda: bench.has("deployed", 1), 60)
        leases.expire(work.attempt.pk, actor=SYSTEM.actor)
        assert work.result() == Outcome.LOST
        assert bench.run(card) == Outcome.COMPLETED
    assert bench.has("deployed", 1)
    assert told(api, "run_command")[0].startswith("INTERRUPTED")
    assert not (trees(card)[0] / "left.txt").exists()


def test_a_request_in_flight_is_abandoned_when_the_card_is_cancelled(bench: Bench) -> None:
    with serving(lambda _: {"hang": True}) as api:
        card = bench.card(step(api))
        work = bench.start(card)
        assert api.hung.wait(60)
        cards.cancel(card.pk, SYSTEM.actor)
        assert work.result() == Outcome.LOST
        assert api.gone.wait(60)


def test_a_shutdown_in_a_request_gives_the_card_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda _: {"hang": True}) as api:
        card = bench.card(step(api))
        work = bench.start(card)
        assert api.hung.wait(60)
        monkeypatch.setattr(stopping, "asked", lambda: True)
        assert work.result() == Outcome.RELEASED
    assert Attempt.objects.get(card=card).reason == "shutdown"


def test_a_request_past_the_steps_time_is_its_timeout(bench: Bench) -> None:
    with serving(lambda _: {"hang": True}) as api:
        card = bench.card({**step(api), "timeout_seconds": 2})
        assert bench.run(card) == Outcome.FAILED
    assert "ran into its timeout of 2 s" in Attempt.objects.get(card=card).error


@pytest.mark.parametrize(("provider", "status"), [("openai", 429), ("anthropic", 529)])
def test_a_short_limit_is_waited_out_a_long_one_gives_the_card_back(
    bench: Bench, provider: str, status: int
) -> None:
    limits: list[Answer] = [
        {"status": status, "retry_after": "0", "message": "slow down"},
        {"status": 503, "retry_after": "0", "message": "later"},
        {"text": "Done."},
        {"status": status, "retry_after": "300", "message": "slow down"},
    ]
    with serving(lambda _: limits.pop(0)) as api:
        card = bench.card(step(api, provider))
        assert bench.run(card) == Outcome.COMPLETED
        assert len(api.requests) == 3
        other = bench.card(step(api, provider))
        assert bench.run(other) == Outcome.RELEASED
    attempt = Attempt.objects.get(card=other)
    assert attempt.reason == "rate_limited"
    assert "slow down" in attempt.outcome
    assert other.not_before is not None
    assert attempt.finished_at is not None
    assert 290 <= (other.not_before - attempt.finished_at).total_seconds() <= 310


def test_an_outage_is_waited_for_longer_and_longer_but_not_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "TRIES", 1)
    monkeypatch.setattr(loop, "MAX_OUTAGES", 2)
    with serving(lambda _: {"status": 500, "message": "broken"}) as api:
        card = bench.card(step(api))
        waits = []
        for _ in range(2):
            assert bench.run(card) == Outcome.RELEASED
            waits.append(pieces(card, "wait-")[-1].result["seconds"])
        assert waits == [30, 60]
        assert bench.run(card) == Outcome.FAILED
    assert "Asked 3 times over" in Attempt.objects.order_by("number").last().lesson  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 401, "message": f"bad key {KEY}"}, "does not take the key in OPENAI_API_KEY"),
        ({"status": 404, "message": "no such model"}, "There is no model scripted at http"),
        ({"status": 400, "message": "unheard of"}, "The request was refused: 400, unheard of."),
    ],
)
def test_what_no_repetition_helps_ends_the_step_with_a_clear_word(
    bench: Bench, answer: Answer, said: str
) -> None:
    with serving(lambda _: answer) as api:
        card = bench.card({**step(api), "retries": 2})
        assert bench.run(card) == Outcome.FAILED
        assert len(api.requests) == 1
    attempt = Attempt.objects.get(card=card)
    assert said in attempt.lesson
    assert KEY not in attempt.lesson + logged(card)


def test_an_answer_has_the_form_that_is_asked_for(bench: Bench) -> None:
    form = {
        "type": "object",
        "properties": {"verdict": {"type": "string", "enum": ["good", "bad"]}},
        "required": ["verdict"],
    }
    script = [
        {"text": "It is good."},
        {"calls": [("final_answer", {"verdict": "fine"})]},
        {"calls": [("final_answer", "{not json")]},
        {"calls": [("final_answer", {"verdict": "good"})]},
    ]
    with serving(played(script)) as api:
        card = bench.card(step(api, output=form, tools=[]))
        assert bench.run(card) == Outcome.COMPLETED
    assert "Give your result by calling final_answer" in api.requests[1].text
    assert told(api, "final_answer") == [
        "ERROR: verdict must be one of 'good', 'bad'.",
        "ERROR: The arguments are not a JSON object.",
    ]
    assert Step.objects.get(card=card, key="it").result["outputs"] == {"verdict": "good"}


def test_answers_that_are_none_are_asked_for_again_and_then_given_up(bench: Bench) -> None:
    with serving(lambda _: {"text": "", "cut": True}) as api:
        card = bench.card(step(api))
        assert bench.run(card) == Outcome.FAILED
        assert len(api.requests) == 4
    assert "cut off" in api.requests[1].text
    assert "got no usable answer in 4 turns" in Attempt.objects.get(card=card).error


def test_a_model_has_only_so_many_turns(bench: Bench) -> None:
    with serving(lambda _: {"calls": [("list_files", {})]}) as api:
        card = bench.card(step(api, max_turns=3))
        assert bench.run(card) == Outcome.FAILED
        assert len(api.requests) == 3
    assert "not done after 3 turns" in Attempt.objects.get(card=card).error


def test_a_turn_that_may_not_be_paid_for_is_not_begun(bench: Bench) -> None:
    priced = {"provider": "openai", "name": "m", "input_usd_per_million": 10}
    with serving(lambda _: {"calls": [("list_files", {})]}) as api:
        card = bench.card(step(api, model=priced), budgets={"usd": "0.0015"})
        assert bench.run(card) == Outcome.RELEASED
        assert len(api.requests) == 2
    attempt = Attempt.objects.get(card=card)
    assert (attempt.reason, str(attempt.cost_usd)) == ("budget", "0.002000")


def test_a_person_is_asked_and_the_work_goes_on_with_the_answer(bench: Bench) -> None:
    asking = ("ask_person", {"question": "Left or right?", "options": ["left", "right"]})
    script = [
        {"calls": [("list_files", {}), asking, ("list_files", {})]},
        {"text": "Then left."},
    ]
    with serving(played(script)) as api:
        card = bench.card(step(api))
        assert bench.run(card) == Outcome.BLOCKED
        question = Message.objects.get(card=card)
        assert (question.text, question.options) == ("Left or right?", ["left", "right"])
        cards.say(card.pk, SYSTEM.actor, "Rather left.", answers=question.pk)
        assert bench.run(card) == Outcome.COMPLETED
    assert told(api, "ask_person") == ["A person answered: Rather left."]
    assert sorted(api.answered) == [0, 3]


def test_what_is_learnt_outlives_the_conversation(bench: Bench) -> None:
    script = [
        {
            "calls": [
                ("record_decision", {"title": "Use sums", "rationale": "They are exact."}),
                ("record_discovery", {"kind": "dead_end", "title": "Floats"}),
                ("propose_card", {"title": "Write docs", "description": "All of them."}),
                ("save_checkpoint", {"summary": "Half-way.", "next_step": "The rest."}),
            ]
        },
        {"text": "Done."},
    ]
    with serving(played(script)) as api:
        card = bench.card(step(api))
        assert bench.run(card) == Outcome.COMPLETED
    assert Decision.objects.get().title == "Use sums"
    assert Discovery.objects.get().title == "Floats"
    other = Card.objects.exclude(pk=card.pk).get()
    assert other.title == "Write docs"
    assert told(api, "propose_card") == [f"Proposed as {other.key}."]
    assert card.checkpoints.filter(summary="Half-way.", next_step="The rest.").exists()


def test_what_the_card_knows_is_told_and_a_secret_is_not(bench: Bench) -> None:
    def script(request: Request) -> Answer:
        return played(
            [
                {"calls": [("run_command", {"command": "echo $MY_TOKEN > f; cat f"})]},
                {"calls": [("read_file", {"path": "f"})]},
                {"text": "It is hunter2-hunter2."},
            ]
        )(request)

    with serving(script) as api:
        wanted = step(api, briefing=True)
        wanted["env"]["MY_TOKEN"] = "hunter2-hunter2"
        card = bench.card(wanted)
        assert bench.run(card) == Outcome.COMPLETED
        assert api.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert card.key in api.requests[0].text
    assert not [request for request in api.requests if "hunter2" in request.text]
    assert "hunter2" not in str(list(Step.objects.filter(card=card).values()))


def test_red_checks_go_on_in_the_same_conversation(bench: Bench) -> None:
    script = [
        {"text": "Done."},
        {"calls": [("write_file", {"path": "good", "content": "yes"})]},
        {"text": "Now it is."},
    ]
    lost: list[int] = []

    def unlucky(request: Request) -> Answer:
        if request.done == 2 and not lost:
            lost.append(1)
            take_away()
            return {"hang": True}
        return played(script)(request)

    with serving(unlucky) as api:
        check = {"key": "check", "run": "test -e good || { echo no good file; exit 1; }"}
        card = bench.card({**step(api), "until": ["check"], "rounds": 3}, check)
        assert bench.run(card) == Outcome.LOST
        assert bench.run(card) == Outcome.COMPLETED
    assert sorted(api.answered) == [0, 1, 2]
    assert "no good file" in api.requests[1].text
    assert api.requests[1].said == 1
    ended = Step.objects.get(card=card, key="it", superseded=False)
    assert ended.result["outputs"] == {"answer": "Now it is."}


def test_a_turn_costs_the_store_the_same_at_the_10th_and_the_60th(bench: Bench) -> None:
    statements = 0
    before: list[int] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal statements
        statements += 1
        return execute(sql, params, many, context)

    def script(request: Request) -> Answer:
        before.append(statements)
        if request.done == 60:
            return {"text": "Done."}
        return {"calls": [("read_file", {"path": "none"})]}

    with serving(script) as api:
        seat = Seat(bench, step(api, max_turns=61))
        with connection.execute_wrapper(count):
            assert executor.EXECUTOR.carry_out(seat.assignment()).succeeded
        seat.close()
    costs = [later - sooner for sooner, later in pairwise(before)]
    assert set(costs[1:]) == {costs[10]}
    assert costs[10] <= 30, costs  # the turn, its call, and two entries in the live log


def test_the_library_is_loaded_by_nobody_who_does_not_use_it() -> None:
    code = (
        "import sys, django; django.setup(); from workers import executors;"
        "assert 'llm' in executors.known(); assert 'llm' in executors.capabilities();"
        "sys.exit('pydantic_ai' in sys.modules or 'openai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_library_the_step_says_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(played([])) as api:
        card = bench.card(step(api))
        attempt = bench.claim(card)
        monkeypatch.setattr(executor, "find_spec", lambda name: None)
        from workers import runner

        assert runner.run_slice(attempt) == Outcome.BLOCKED
    card.refresh_from_db()
    assert "make model" in card.blocked_reason


# ── keys and addresses ───────────────────────────────────────────────────────────────────


def model(provider: str = "openai", **more: Any) -> dict[str, Any]:
    return {"provider": provider, "name": "m", "base_url": None, "api_key_env": None, **more}


def test_the_servers_key_goes_to_the_provider_alone() -> None:
    host = {"OPENAI_API_KEY": "theirs", "ROUTER_KEY": "routed", "SECRET_KEY": "never"}
    at = endpoint.address(model(), {}, host=host)
    assert (at.base_url, at.key) == ("https://api.openai.com/v1", "theirs")
    elsewhere = model(base_url="http://evil.example/v1")
    assert endpoint.address(elsewhere, {}, host=host).key == "none"
    for name in ("OPENAI_API_KEY", "ROUTER_KEY", "SECRET_KEY"):
        with pytest.raises(endpoint.Misconfigured, match=name):
            endpoint.address({**elsewhere, "api_key_env": name}, {}, host=host)
    router = model(base_url="https://router.example/v1", api_key_env="ROUTER_KEY")
    keys = {"ROUTER_KEY": "https://router.example/v1/"}
    assert endpoint.address(router, {}, host=host, keys=keys).key == "routed"
    with pytest.raises(endpoint.Misconfigured, match="There is no key"):
        endpoint.address(model("anthropic"), {}, host=host)


def test_a_steps_own_key_goes_where_the_step_says() -> None:
    env = {"MY_KEY": "mine", "OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}
    at = endpoint.address(model(api_key_env="MY_KEY"), env, host={"OPENAI_API_KEY": "theirs"})
    assert (at.base_url, at.key, at.key_from) == ("http://127.0.0.1:11434/v1", "mine", "MY_KEY")
    assert endpoint.address(model(), env, host={"OPENAI_API_KEY": "theirs"}).key == "none"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_address_of_a_steps_choice_sees_nothing_of_this_servers_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    for name, value in {
        "OPENAI_API_KEY": "theirs-0123456789",
        "OPENAI_CUSTOM_HEADERS": "x-gateway: theirs-0123456789\nAuthorization: theirs-0123456789",
        "OPENAI_ORG_ID": "theirs-0123456789",
        "ANTHROPIC_API_KEY": "theirs-0123456789",
        "ANTHROPIC_AUTH_TOKEN": "theirs-0123456789",
        "ANTHROPIC_CUSTOM_HEADERS": "x-gateway: theirs-0123456789",
    }.items():
        monkeypatch.setenv(name, value)

    def script(request: Request) -> Answer:
        if len(api.requests) == 1:
            return {"status": 307, "location": f"{api.url}/elsewhere", "message": "moved"}
        return {"text": "Done."}

    with serving(script) as api:
        wanted = step(api, provider)
        wanted["retries"] = 1
        card = bench.card(wanted)
        assert bench.run(card) == Outcome.FAILED  # not led on to anywhere
        assert len(api.requests) == 1
        assert bench.run(card) == Outcome.COMPLETED
    for request in api.requests:
        assert "theirs-0123456789" not in str(request.headers)
        assert KEY in request.headers.get("authorization", request.headers.get("x-api-key"))


def test_an_operator_can_say_which_addresses_are_asked() -> None:
    allowed = ["http://127.0.0.1:11434/v1"]
    local = model(base_url="http://127.0.0.1:11434/v1")
    assert endpoint.address(local, {}, host={}, allowed=allowed).key == "none"
    with pytest.raises(endpoint.Misconfigured, match="MODEL_ENDPOINTS"):
        endpoint.address(model(base_url="http://10.0.0.1/v1"), {}, host={}, allowed=allowed)
    assert endpoint.address(model(), {"OPENAI_API_KEY": "k"}, host={}, allowed=allowed).key == "k"
