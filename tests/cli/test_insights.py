"""How a board's work flows, from the command line."""

from __future__ import annotations


def test_the_figures_are_told_and_given_as_json(desk):
    goal = desk.json("goal", "add", "Flowing", "--criterion", "It flows.")
    card = desk.json("card", "add", "Flow", "--goal", goal["id"], "--start")
    told = desk.json("board", "insights", "--goal", goal["id"])
    assert [found["card"] for found in told["ageing"]] == [card["key"]]
    assert told["finished"] == []
    shown = desk("board", "insights", "--goal", "flowing", "--days", "all").stdout
    assert "1 left" in shown
    assert "too little history" in shown


def test_what_makes_no_sense_is_refused_by_name(desk):
    refused = desk("board", "insights", "--days", "many", status=4)
    assert "days" in refused.stderr
