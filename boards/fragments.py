"""What many open pages of a board ask for at the same time, made once for all of them.

Everything here is small, in this process, and only saves work: an answer that has to be newer,
or whose facts differ in anything, is made again. Whether somebody may ask is decided before.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextlib import contextmanager
from dataclasses import fields
from hashlib import blake2b
from typing import Any, Generic, TypeVar

from django.db import models
from django.template.loader import render_to_string
from django.utils.translation import get_language

from boards.selectors import Face

MOST_CARDS = 4_000
CARD_SECONDS = 60.0
MOST_ANSWERS = 100
#: What follows from the clock as well as from the log, such as who is silent, is never older.
ANSWER_SECONDS = 1.0

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The newest entries, each for a while. From any thread."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._kept: OrderedDict[Hashable, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            entry = self._kept.get(key)
        if entry is None or time.monotonic() - entry[0] >= self._seconds:
            return None
        return entry[1]

    def put(self, key: Hashable, value: Value, made: float) -> None:
        """Keep what was true at ``made``."""
        with self._lock:
            self._kept[key] = (made, value)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


_cards: Recent[str] = Recent(MOST_CARDS, CARD_SECONDS)


def card(face: Face, context: Mapping[str, Any]) -> str:
    """Return the HTML of a card on the board.

    It is kept under everything it is made from: all that was read of the card, its attempt and
    its question, the context and the language. There is no request in it, so nothing of who asks
    can be, either; ``context`` is the same for many people.
    """
    key = _digest(face, context)
    html = _cards.get(key)
    if html is None:
        html = render_to_string("boards/_card.html", {**context, "face": face})
        _cards.put(key, html, time.monotonic())
    return html


def _digest(face: Face, context: Mapping[str, Any]) -> bytes:
    facts = [(name.name, _told(getattr(face, name.name))) for name in fields(face)]
    told = repr((get_language(), sorted(context.items()), facts))
    return blake2b(told.encode(), digest_size=20).digest()


def _told(value: Any) -> Any:
    if isinstance(value, models.Model):
        return [(name, kept) for name, kept in vars(value).items() if name != "_state"]
    return value


class Shared(Generic[Value]):
    """Answers that hold for everybody who asks the same at about the same time.

    Each is kept with the number of the last event before it was made. Whoever has seen events up
    to ``at`` takes any answer that is no older; who knows no number gets one of their own. Of
    several who need a new one at once, one makes it and the others wait for it.
    """

    def __init__(self) -> None:
        self._answers: Recent[tuple[int, Value]] = Recent(MOST_ANSWERS, ANSWER_SECONDS)
        self._making: dict[Hashable, tuple[threading.Lock, int]] = {}
        self._lock = threading.Lock()

    def get(
        self,
        key: Hashable,
        at: int | None,
        newest: Callable[[], int],
        make: Callable[[], Value],
    ) -> Value:
        """Return the answer to ``key`` as of event ``at`` or later."""
        if at is None:
            return make()
        with self._alone(key):
            kept = self._answers.get(key)
            if kept is not None and kept[0] >= at:
                return kept[1]
            made = time.monotonic()
            seq = newest()  # before: what changes meanwhile makes the answer newer, never older
            value = make()
            self._answers.put(key, (seq, value), made)
            return value

    @contextmanager
    def _alone(self, key: Hashable) -> Any:
        with self._lock:
            lock, users = self._making.get(key, (threading.Lock(), 0))
            self._making[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._making[key]
                if users == 1:
                    del self._making[key]
                else:
                    self._making[key] = (lock, users - 1)

    def clear(self) -> None:
        self._answers.clear()
