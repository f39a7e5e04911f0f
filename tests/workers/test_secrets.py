"""What becomes of a board's secrets where its commands run: had by them, shown by nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from boards import cards, tokens
from boards.models import Board, Column
from boards.secrets import keeping
from checkpoints import artifacts, briefing, bundles
from checkpoints.models import Artifact, Step
from goals import checks, criteria
from goals.models import Evidence
from kernel.access import SYSTEM, Role
from tests.factories import make_goal, now_is
from tests.repositories import git
from tests.workbench import Afar, Bench, logged, wait_for
from tests.workers import model_api
from workers import checking, database, hygiene, products, sweep
from workers.executors.shell.mode import bubblewrap
from workers.remote.loop import Told
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)

VALUE = "hf-live/9s+K2jQx&77zP"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\nw0BAQEFAASCBKcwggSj\n-----END KEY-----\n"
DIGEST = hashlib.sha256(VALUE.encode()).hexdigest()[:12]
#: What a command does that has no care at all.
CARELESS = f"""\
set -x
echo "$DEPLOY_KEY"; echo "$DEPLOY_KEY" >&2; printf %s "$DEPLOY_KEY" | base64; env | sort
printf "$PEM" | base64 -w 20; echo "$PEM" | tail -2
echo "it=$DEPLOY_KEY" >> "$HOLDFAST_OUTPUT"
test "$(printf %s "$DEPLOY_KEY" | sha256sum | cut -c -12)" = {DIGEST} || exit 9
"""


@pytest.fixture(params=["auto", "plain"])
def way(request: pytest.FixtureRequest, settings: Any) -> str:
    if request.param == "auto" and bubblewrap() is None:
        pytest.skip("no usable bubblewrap here")
    settings.COMMAND_SANDBOX = request.param
    return str(request.param)


@pytest.fixture
def secret(bench: Bench) -> None:
    keeping.put(bench.board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    keeping.put(bench.board.pk, "user:ann", "PEM", PEM)


def everything() -> str:
    """Return all that stands in the store: every row of every table, and every artifact."""
    told = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            told += [str(row) for row in cursor.fetchall()]
    for artifact in Artifact.objects.all():
        told.append(artifacts.path_of(artifact.pk).read_bytes().decode("utf-8", "replace"))
    return "\n".join(told)


def shows(text: str) -> list[str]:
    """Return which of the secrets' forms stand in the text."""
    text = "".join(text.split())
    forms = [VALUE[:14], "MIIEvQIBADANBg", "w0BAQEFAASCB"]
    for value in (VALUE, PEM):
        coded = base64.b64encode(value.encode()).decode()
        forms += [coded[n : n + 16] for n in range(0, len(coded) - 16, 4)]
    return [form for form in forms if form in text]


def carelessly(**more: Any) -> dict[str, Any]:
    return {"key": "deploy", "run": CARELESS, **more}


def test_a_command_has_the_secret_and_nothing_on_record_does(
    bench: Bench, secret: None, way: str
) -> None:
    goal = make_goal(bench.board, criteria=[{"text": "it is out"}])
    card = bench.card(
        {**carelessly(), "criterion": 1},
        {"key": "tell", "run": "echo ${{ steps.deploy.outputs.it }} told; exit 0"},
        goal=goal,
    )
    assert bench.run(card) == Outcome.COMPLETED, card.attempts.get().error
    text = logged(card)
    assert text.count("[redacted]") >= 6
    step = Step.objects.get(key="deploy")
    assert step.result["outputs"] == {"it": "[redacted]"}
    assert (step.result["sandbox"]["mode"] == "namespace") == (way == "auto")
    built = briefing.build(card, max_tokens=8000)
    with bundles.export([card]) as file:
        bundle = file.read().decode("latin-1")
    for place in (text, json.dumps(step.result), built.markdown, bundle, everything()):
        assert not shows(place)


def test_a_command_that_fails_shows_none_in_its_error_or_lesson(
    bench: Bench, secret: None, way: str
) -> None:
    card = bench.card(carelessly(run=f"{CARELESS}\nexit 3"))
    assert bench.run(card) == Outcome.FAILED
    assert not shows(everything())


def test_every_kind_of_step_has_it(bench: Bench, secret: None) -> None:
    script = 'test -n "$DEPLOY_KEY" && echo "$DEPLOY_KEY"'
    card = bench.card(
        {"key": "run", "run": script},
        {"key": "check", "check": script},
        {"key": "agent", "agent": {"command": f"sh -c '{script}'", "prompt": "go"}},
    )
    assert bench.run(card) == Outcome.COMPLETED, card.attempts.get().error
    assert not shows(everything())


@pytest.mark.parametrize("before", [0, 7, products.CHUNK_BYTES - 5])
def test_an_artifact_with_a_secret_in_it_is_not_kept(
    bench: Bench, secret: None, before: int
) -> None:
    fill = f"head -c {before} /dev/zero > log; " if before else ""
    run = f'{fill}printf %s "$DEPLOY_KEY" >> log; echo plain > report; printf %s "$PEM" > key'
    card = bench.card({"key": "a", "run": run, "artifacts": ["log", "report", "key"]})
    assert bench.run(card) == Outcome.COMPLETED
    result = Step.objects.get(key="a").result
    assert [kept["name"] for kept in result["artifacts"]] == ["report"]
    assert result["problems"] == [
        "log was not kept: the secret DEPLOY_KEY stands in it.",
        "key was not kept: the secret PEM stands in it.",
    ]
    assert not shows(everything())


def test_a_step_at_a_model_has_its_providers_key(bench: Bench) -> None:
    keeping.put(bench.board.pk, "user:ann", "OPENAI_API_KEY", model_api.KEY)
    script = [
        {"calls": [("run_command", {"command": "echo $OPENAI_API_KEY"})]},
        {"text": f"The key is {model_api.KEY}."},
    ]
    with model_api.serving(model_api.played(script)) as api:
        env = {name: value for name, value in api.env.items() if name.endswith("_BASE_URL")}
        llm = {"model": "openai:scripted", "prompt": "Do it.", "briefing": False}
        card = bench.card({"key": "it", "llm": llm, "env": env})
        assert bench.run(card) == Outcome.COMPLETED, card.attempts.get().error
        assert len(api.requests) == 2
        for request in api.requests:
            assert request.headers["authorization"] == f"Bearer {model_api.KEY}"
            assert model_api.KEY not in request.text
        assert "[redacted]" in api.requests[-1].results[0][1]
    assert model_api.KEY not in everything()


def test_a_workflows_own_variables_come_before_secrets_and_ours_before_all(
    bench: Bench, secret: None
) -> None:
    card = bench.card({"key": "a", "run": "echo $DEPLOY_KEY", "env": {"DEPLOY_KEY": "dry"}})
    assert bench.run(card) == Outcome.COMPLETED
    assert logged(card) == "dry\n"


# ── boards apart ──


def test_no_board_has_the_secrets_of_another(bench: Bench, secret: None, way: str) -> None:
    other = cards.create_board(SYSTEM, key="OPS", name="Operations")
    Board.objects.filter(pk=other.pk).update(allow_commands=True)
    keeping.put(other.pk, "user:ann", "OTHER_KEY", "the key of operations")
    other.refresh_from_db()
    column = other.columns.get(kind=Column.Kind.IN_PROGRESS)
    todo = {"steps": [{"key": "a", "run": "env; echo ${OTHER_KEY:+theirs} ${DEPLOY_KEY:+ours}"}]}
    theirs = cards.create(other, SYSTEM.actor, title="w", column=column, workflow=todo)
    mine = bench.card(workflow=todo)
    assert bench.run(theirs) == bench.run(mine) == Outcome.COMPLETED
    assert "OTHER_KEY=[redacted]" in logged(theirs)
    assert "DEPLOY_KEY" not in logged(theirs)
    assert logged(theirs).endswith("theirs\n")
    assert logged(mine).endswith("\nours\n")
    assert "OTHER_KEY" not in logged(mine)
    assert database.terms(other).secrets == {"OTHER_KEY": "the key of operations"}


def test_a_command_sees_none_of_another_boards_that_runs_beside_it(
    bench: Bench, secret: None, way: str
) -> None:
    other = cards.create_board(SYSTEM, key="OPS", name="Operations")
    Board.objects.filter(pk=other.pk).update(allow_commands=True)
    keeping.put(other.pk, "user:ann", "OTHER_KEY", "the key of operations")
    other.refresh_from_db()
    wait = f"until test -e {bench.effects}/looked; do sleep 0.05; done"
    theirs = cards.create(
        other,
        SYSTEM.actor,
        title="w",
        column=other.columns.get(kind=Column.Kind.IN_PROGRESS),
        workflow={"steps": [{"key": "a", "run": f"{bench.mark('there')}; {wait}"}]},
    )
    beside = bench.start(theirs)
    wait_for(lambda: bench.has("there", 1))
    look = r"cat /proc/[0-9]*/environ 2> /dev/null | tr '\0' '\n' | grep -c ^OTHER_KEY="
    mine = bench.card(f"{look}; {bench.mark('looked')}")
    assert bench.run(mine) == Outcome.COMPLETED
    assert beside.result() == Outcome.COMPLETED
    # Plain, it is as docs/secrets.md has it.
    assert (logged(mine) == "0\n") == (way == "auto")


def test_no_secret_is_opened_where_commands_are_off(bench: Bench, secret: None) -> None:
    Board.objects.update(allow_commands=False)
    bench.board.refresh_from_db()
    assert database.terms(bench.board).secrets == {}


def test_a_card_is_blocked_while_a_secret_of_its_board_does_not_open(
    bench: Bench, secret: None, settings: Any
) -> None:
    settings.SECRET_KEY_FALLBACKS = []
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another key of this installation"
    card = bench.card("true")
    assert bench.run(card) == Outcome.BLOCKED
    assert "secrets that don't open: DEPLOY_KEY, PEM" in card.blocked_reason
    assert "SECRET_KEY_FALLBACKS" in card.blocked_reason
    settings.SECRET_KEY_FALLBACKS = [old]
    call_command("reseal_secrets", stdout=io.StringIO())
    settings.SECRET_KEY_FALLBACKS = []
    card = bench.card('test -n "$DEPLOY_KEY"')
    assert bench.run(card) == Outcome.COMPLETED


def test_the_sweep_seals_anew_what_an_earlier_key_sealed(
    bench: Bench, secret: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hygiene, "tidy_beside", lambda: None)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key of this installation"
    sweep.Sweep()._clean_now_and_then()
    settings.SECRET_KEY_FALLBACKS = []
    assert keeping.opened(bench.board.pk).values == {"DEPLOY_KEY": VALUE, "PEM": PEM}


# ── another host ──


@pytest.fixture
def afar(settings: Any, bench: Bench, live_server: Any) -> Iterator[Afar]:
    """A worker elsewhere at the same board, whose token carries no secrets."""
    settings.BASE_URL = live_server.url
    made = Afar.__new__(Afar)
    made.__dict__.update(bench.__dict__, url=live_server.url, told=Told(), _clients=[])
    made.token = tokens.issue("afar", roles={bench.board.pk: Role.MEMBER}).plaintext
    yield made
    made.close()


def test_a_worker_elsewhere_has_them_if_its_token_may_carry_them(afar: Afar, secret: None) -> None:
    card = afar.card(carelessly())
    assert afar.run(card) == Outcome.RELEASED
    assert "the board Payments has some: DEPLOY_KEY, PEM. An operator" in everything()
    roles = {afar.board.pk: Role.MEMBER}
    afar.token = tokens.issue("afar", roles=roles, carries_secrets=True).plaintext
    assert afar.run(card) == Outcome.COMPLETED, card.attempts.latest("number").error
    assert logged(card).count("[redacted]") >= 6
    assert not shows(everything())


# ── checks of goals ──


def test_a_goals_checks_have_them_and_their_evidence_does_not(
    bench: Bench, secret: None, tmp_path: Path, settings: Any
) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    Board.objects.filter(pk=bench.board.pk).update(repository=str(folder))
    todo = [
        {"text": "there", "check": 'echo "$DEPLOY_KEY"; echo "$PEM" | base64; test -n "$PEM"'},
        {"text": "not there", "check": 'echo "no $DEPLOY_KEY"; exit 3'},
    ]
    goal = make_goal(bench.board, criteria=todo)
    made = checks.request(goal, "user:ann", "asked")
    checking.check(made.pk)
    assert now_is(made).said == "1 met, 1 not met."
    assert [c.met for c in criteria.standing(goal.pk)] == [True, False]
    assert "no [redacted]" in Evidence.objects.get(criterion__number=2).detail
    assert not shows(everything())
    settings.SECRET_KEY = "another key of this installation"
    again = checks.request(goal, "user:ann", "asked")
    checking.check(again.pk)
    assert "don't open: DEPLOY_KEY, PEM" in now_is(again).error
