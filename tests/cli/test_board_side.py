"""Goals, cards and boards from the command line."""

from __future__ import annotations

import re

import pytest

EVIL = "Fix\x1b[31mred\x1b[0m \x1b]0;owned\x07[bold]it[/bold] \x9b2J\u202eabc :smile:"


def test_a_goal_and_its_card_can_be_added_found_and_shown(desk):
    goal = desk.json(
        "goal",
        "add",
        "Payments settle",
        "--intent",
        "-",
        "--criterion",
        "No refund is lost.",
        "--check",
        "Tests pass.",
        "make test",
        input="Every night.\n",
    )
    assert goal["intent"] == "Every night."
    assert [(c["text"], c["check"]) for c in goal["criteria"]] == [
        ("No refund is lost.", ""),
        ("Tests pass.", "make test"),
    ]

    card = desk.json(
        "card",
        "add",
        "Settle at midnight",
        "--goal",
        "payments",
        "--priority",
        "1",
        "--label",
        "night",
        "--requires",
        "python",
        "--start",
    )
    assert card["goal"] == goal["id"]
    assert (card["state"], card["priority"], card["labels"]) == ("waiting", 1, ["night"])

    assert [found["key"] for found in desk.json("card", "list", "--label", "night")] == [
        card["key"]
    ]
    assert desk.json("card", "show", card["key"])["attempts"] == []
    shown = desk("card", "show", card["key"]).stdout
    assert "Settle at midnight" in shown
    assert "Waits for a worker with python." in shown
    assert "0/2" in desk("goal", "list").stdout
    assert "make test" in desk("goal", "show", "payments").stdout


def test_a_workflow_comes_from_a_file(desk):
    file = desk.home / "flow.yaml"
    file.write_text("steps:\n  - key: test\n    run: make test\n")
    made = desk.json("card", "add", "Test it", "--workflow", str(file))
    assert made["workflow"] == {"steps": [{"key": "test", "run": "make test"}]}
    file.write_text("steps: [")
    assert (
        "neither JSON nor YAML"
        in desk("card", "add", "x", "--workflow", str(file), status=2).stderr
    )


def test_a_card_is_moved_and_steered(desk):
    card = desk.json("card", "add", "Steer me")["key"]
    assert desk.json("card", "move", card, "in progress")["state"] == "waiting"
    assert desk.json("card", "pause", card)["paused"] is True
    assert desk.json("card", "resume", card)["paused"] is False
    assert desk.json("card", "edit", card, "--title", "Steered")["title"] == "Steered"
    covers = ("--covers", "2", "--covers", "1")
    assert desk.json("card", "edit", card, *covers)["covers"] == [2, 1]
    assert desk.json("card", "cancel", card)["state"] == "cancelled"
    assert desk.json("card", "retry", card)["state"] != "cancelled"


def test_only_people_approve(desk):
    card = desk.card(review_required=True)
    told = desk.claimed("--card", card)
    desk("complete", "Look at it.", **told)
    for words in (("approve", card), ("reject", card, "No.")):
        assert "person" in desk("card", *words, status=7).stderr


def test_the_board_shows_every_column_with_its_cards(desk):
    waits, done = desk.card("still to do"), desk.card("long done")
    desk("complete", "Done.", **desk.claimed("--card", done))
    shown = desk("board").stdout
    headings = re.findall(r"^(Backlog|In progress|Blocked|Review|Completed) (\d+)$", shown, re.M)
    assert headings == [
        ("Backlog", "0"),
        ("In progress", "1"),
        ("Blocked", "0"),
        ("Review", "0"),
        ("Completed", "1"),
    ]
    assert shown.index("still to do") < shown.index("long done")
    said = [desk(*words, desk.board).stdout for words in (("board",), ("board", "show"))]
    short, long = (re.sub(r"\d+ s ago", "just now", text) for text in said)
    assert short == long
    assert {card["key"] for card in desk.json("board", desk.board)["cards"]} == {waits, done}
    assert [board["key"] for board in desk.json("board", "list")] == [desk.board]


def test_which_board_is_asked_where_there_are_several(desk):
    desk.site.new_board()
    token = desk.site.token
    assert "--board" in desk("card", "add", "x", status=2, HOLDFAST_TOKEN=token).stderr
    made = desk.json("card", "add", "x", HOLDFAST_TOKEN=token, HOLDFAST_BOARD=desk.board)
    assert made["key"].startswith(desk.board)


def test_a_list_says_when_there_is_more(desk):
    for n in range(3):
        desk.card(f"card {n}")
    some = desk("card", "list", "--limit", "2")
    assert some.stdout.count("card ") == 2
    assert "more than 2" in some.stderr
    assert len(desk.json("card", "list", "--limit", "2", "--all")) == 3
    assert desk("card", "list", "--limit", "3").stderr == ""


def test_a_question_is_answered(desk):
    card = desk.card()
    assert "no open question" in desk("answer", card, "Blue.", status=3).stderr
    told = desk.claimed("--card", card)
    desk("block", "Not said.", "--question", "Which colour?", "--option", "Blue", **told)
    shown = desk("card", "show", card).stdout
    assert "Which colour?" in shown
    assert "- Blue" in shown
    desk("message", card, "Give me a minute.")
    desk("answer", card, "Blue.")
    assert desk.get(f"/cards/{card}")["state"] == "waiting"
    assert "Blue." in desk("briefing", card).stdout


def test_the_briefing_is_the_markdown_of_the_api(desk):
    card = desk.card(description="Mind the gap.")
    told = desk.get(f"/cards/{card}/briefing")["markdown"]
    printed = desk("briefing", card).stdout
    assert "Mind the gap." in printed
    assert printed.splitlines()[0] == told.splitlines()[0]
    assert desk.json("briefing", card)["tokens"] > 0


def test_workers_are_listed_with_what_they_hold(desk):
    card = desk.card()
    desk.claimed("--card", card, "--worker", "ada-7", "--can", "python")
    (line,) = [x for x in desk("worker", "list").stdout.splitlines() if x.startswith("ada-7")]
    assert card in line
    assert "python" in line


@pytest.mark.parametrize(
    "words",
    [
        ("card", "list"),
        ("card", "show", "{card}"),
        ("board",),
        ("goal", "list"),
        ("goal", "show", "{goal}"),
    ],
)
def test_text_from_the_server_neither_steers_the_terminal_nor_is_markup(desk, words):
    goal = desk.site.call(
        "POST",
        "/api/v1/goals",
        {"board": desk.board, "title": EVIL, "intent": EVIL},
    ).body["id"]
    card = desk.card(EVIL, description=EVIL, labels=["[red]x[/red]"])
    out = desk(*(word.format(card=card, goal=goal) for word in words)).stdout
    assert "[bold]it[/bold]" in out
    assert ":smile:" in out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out)


def test_json_is_ascii_whatever_was_stored(desk):
    desk.card("grün \x9b2J")
    out = desk("card", "list", "--json").stdout
    assert out.isascii()
    assert "\x9b" not in out


def test_a_token_is_made_and_taken_back(desk):
    operator = desk.site.token
    made = desk("token", "create", "bob", "--board", desk.board, HOLDFAST_TOKEN=operator)
    token = made.stdout.strip()
    who = desk.json("me", HOLDFAST_TOKEN=token)
    assert (who["name"], who["boards"][0]["role"]) == ("bob", "member")
    ident = made.stderr.split()[-1]
    desk("token", "revoke", ident, HOLDFAST_TOKEN=operator)
    assert "Set HOLDFAST_TOKEN" in desk("me", status=7, HOLDFAST_TOKEN=token).stderr


def test_a_member_may_not_make_tokens(desk):
    desk("token", "create", "eve", "--board", desk.board, status=7)


def test_words_are_found_in_what_the_board_remembers(desk):
    goal = desk.json("goal", "add", "Walruses settle")
    card = desk.json("card", "add", "Count \x1b[31m walruses", "--goal", "walruses settle")
    found = desk.json("search", "walrus*", "--goal", goal["id"], "--kind", "card", "--after", "1h")
    assert [hit["card"] for hit in found["results"]] == [card["key"]]
    shown = desk("search", "walruses", "nonsense", "--card", card["key"])
    assert card["key"] in shown.stdout
    assert "\x1b[31m" not in shown.stdout
    assert "some of them" in shown.stderr
    assert "after" in desk("search", "x", "--after", "soon", status=4).output
