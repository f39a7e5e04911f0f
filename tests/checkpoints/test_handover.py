"""What a worker with nothing but the briefing knows: of fifty histories, and of some a hundred
times as long."""

from __future__ import annotations

import os
import random
import re
from functools import partial

import pytest
from django.utils import timezone

from boards.models import Attempt, Card, Message
from checkpoints import briefing
from checkpoints.models import Checkpoint, Step
from goals import memory
from goals.models import Decision, Discovery
from tests.factories import make_board, make_card, make_goal, now_is

pytestmark = pytest.mark.django_db

HISTORIES = 50
LONGER = 100
#: Of the histories every so many-th grows as well: they differ in what is known, not in growth.
#: HANDOVER_EVERY=1 has all of them grow, which takes a minute or two.
EVERY = int(os.environ.get("HANDOVER_EVERY") or 10)
WORDS = re.findall(
    r"\w+",
    """queue outbox trigger index schema lock retry batch cursor replica shard cache token lease
    ledger audit mirror worker checkpoint column migration partition backfill throttle""",
)


#: In which a character may take more than a token, by what stands between words.
SCRIPTS = {
    "Chinese": (
        "",
        "队列 发件箱 触发器 索引 模式 重试 批次 游标 副本 令牌 租约 账本 审计 检查点 迁移",
    ),
    "Japanese": (
        "",
        "キュー 送信箱 トリガー 索引 再試行 バッチ カーソル トークン 台帳 監査 作業者 移行",
    ),
    "Korean": (
        " ",
        "대기열 발신함 트리거 색인 잠금 재시도 일괄 복제본 토큰 원장 감사 작업자 이전 분할",
    ),
    "English": (" ", " ".join(WORDS)),
}
#: What a small model may have room for: below, counts and the way to the rest must do.
SMALL = 600


def _prose(draw: random.Random, most: int, script: str = "English") -> str:
    between, words = SCRIPTS[script]
    return between.join(draw.choices(words.split(), k=draw.randint(1, most)))


class History:
    """A card with a past, and what whoever goes on with it must know."""

    def __init__(self, n: int, draw: random.Random, script: str = "English") -> None:
        prose = partial(_prose, script=script)
        self.draw, self.board, self.prose = draw, make_board(), prose
        self.intent = f"INTENT-{n}: {prose(draw, 60)}."
        self.next_step = f"NEXT-{n}: {prose(draw, 30)}."
        goal = make_goal(
            self.board,
            title=prose(draw, 6),
            intent=self.intent,
            constraints=[prose(draw, 8) for _ in range(draw.randint(0, 3))],
            criteria=[f"criterion {prose(draw, 10)}" for _ in range(draw.randint(0, 6))],
        )
        self.card = make_card(self.board, goal=goal, title=prose(draw, 8))
        Card.objects.filter(pk=self.card.pk).update(description=prose(draw, 300))
        self.goal = goal
        self.attempts = 0
        self.newest = memory.decide(self.board.pk, goal.pk, "user:ann", title="decided-first")
        self.grow(1)
        where = (self.board.pk, goal.pk, "worker:ada")
        self.decisions = [f"decided-{n}-{k} {prose(draw, 12)}" for k in range(draw.randint(1, 12))]
        for title in self.decisions:
            memory.decide(*where, title=title, rationale=prose(draw, 250))
        self.decisions.append("decided-first")
        self.dead_ends = [f"ended-{n}-{k} {prose(draw, 10)}" for k in range(draw.randint(1, 8))]
        for title in self.dead_ends:
            memory.discover(*where, kind="dead_end", title=title, detail=prose(draw, 150))

    def grow(self, times: int) -> None:
        """Add attempts, steps, checkpoints, words and what no longer holds."""
        draw, now, goal, prose = self.draw, timezone.now(), self.goal, self.prose
        tries = [
            Attempt(
                board=self.board,
                card=self.card,
                number=self.attempts + k + 1,
                worker=f"w{k}",
                status="failed",
                started_at=now,
                finished_at=now,
                lease_expires_at=now,
                approach=prose(draw, 20),
                error=prose(draw, 80),
                lesson=prose(draw, 20),
            )
            for k in range(4 * times)
        ]
        Attempt.objects.bulk_create(tries)
        for k, made in enumerate(tries):
            made.number = self.attempts + k + 1
        self.attempts += len(tries)
        Card.objects.filter(pk=self.card.pk).update(fence=self.attempts)
        Step.objects.bulk_create(
            Step(
                card=self.card,
                attempt=tries[0],
                key=f"s{tries[0].number}-{k}",
                number=1_000 * tries[0].number + k,
                status="succeeded",
                result={"output": "x"},
                finished_at=now,
            )
            for k in range(10 * times)
        )
        Checkpoint.objects.bulk_create(
            Checkpoint(
                card=self.card,
                attempt=tries[-1],
                number=1_000 * tries[0].number + k,
                summary=prose(draw, 60),
                next_step=self.next_step,
                digest="x",
            )
            for k in range(3 * times)
        )
        Message.objects.bulk_create(
            Message(card=self.card, actor="user:ann", text=prose(draw, 60))
            for _ in range(3 * times)
        )
        where = {"board_id": self.board.pk, "goal": goal, "actor": "worker:bob"}
        Decision.objects.bulk_create(
            Decision(title=f"superseded {prose(draw, 8)}", superseded_by=self.newest, **where)
            for _ in range(3 * times)
        )
        Discovery.objects.bulk_create(
            Discovery(
                kind="dead_end",
                title=f"settled {prose(draw, 8)}",
                status="resolved",
                resolved_at=now,
                **where,
            )
            for _ in range(3 * times)
        )


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def lost(history: History, most: int = briefing.DEFAULT_MAX_TOKENS) -> list[str]:
    """Return what a reader of the briefing, who has nothing else, would not know."""
    built = briefing.build(now_is(history.card), max_tokens=most)
    assert built.tokens <= most
    told = sections(built.markdown)
    asked = {"Goal": history.intent, "Next step": history.next_step}
    if most < briefing.AMPLE_TOKENS:  # told by how they begin
        asked = {section: what.split()[0] for section, what in asked.items()}
    missing = [what for section, what in asked.items() if what not in told.get(section, "")]
    for names, section in (
        (history.decisions, "Decisions in force"),
        (history.dead_ends, "Tried and failed"),
    ):
        stands = told.get(section, "")
        missing += [name for name in names if name.split()[0] not in stands]
        assert "superseded " not in stands
        assert "settled " not in stands
    return missing


def test_nothing_that_binds_is_lost_however_long_the_history():
    draw = random.Random(7)
    for n in range(HISTORIES):
        history = History(n, draw)
        assert lost(history) == [], n
        if n % EVERY == 0:
            history.grow(LONGER)
            assert lost(history) == [], n


@pytest.mark.parametrize("script", SCRIPTS)
def test_in_a_small_briefing_whatever_binds_is_at_least_named(script):
    draw = random.Random(11)
    for n in range(6):
        history = History(n, draw, script)
        for most in (SMALL, 1_000, briefing.AMPLE_TOKENS - 1):
            assert lost(history, most) == [], (n, most)
    history.grow(LONGER // 5)
    assert lost(history, SMALL) == []
