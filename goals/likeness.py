"""How alike two texts are by their words: no model, and the same answer every time."""

from __future__ import annotations

import difflib
import re

from goals.search.language import Term

#: Two approaches look alike from this similarity of their words on (0 … 1).
ALIKE = 0.6
#: … and from this one of their stems, so that two of three that both have are not enough.
STEMS = 0.67
#: So many of the words of the shorter text stand in the other, where both are about one thing.
SHARED = 0.6
#: Words that say nothing about what a text is about.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """a add adds all an and any are as at be been before both by can did do does each every for
        from get had has have how if in instead into is it its just make makes more most new no not
        now of on once one only or our own put rather run runs set should so than that the their
        them then there these they this through to too try up use used uses using very was we were
        what when where which while will with within work works you""",
    )
)
#: What words of one stem end in. ``migrate``, ``migration``; ``retries``, ``retry``; ``cached``.
_ENDINGS = re.compile(
    r"(?:i[sz](?:ations?|ing|ers?|ed|es|e)|ations?|at(?:ing|ors?|ed|es|e)|y?ings?|ally|ily|ly"
    r"|ers?|ies|ied|ed|es|s|e|y)$"
)
_TWICE = re.compile(r"([b-df-hj-np-tv-z])\1$")
#: What is said of an approach that failed, and tells it from no other.
_VERDICTS = frozenset(
    re.findall(
        r"\w+", "break broken deadlock fail flak hang impossib leak long race slow unsupport wrong"
    )
)
#: What relates two things to one another, so that it matters which one comes first.
_DIRECTED = frozenset({"after", "before", "from", "into", "over", "than", "under"})
#: Between ``parse`` and ``Config`` in an identifier, and between ``HTTP`` and ``Client``.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_MOST_CHARS = 4_000
_MOST_TERMS = 12


def words(text: str) -> list[str]:
    """Return the distinct words of the text in order, those of an identifier by themselves."""
    plain = _HUMP.sub(" ", text[:_MOST_CHARS]).replace("_", " ")
    return sorted(set(re.findall(r"\w+", plain.lower())))


def ratio(one: str, other: str) -> float:
    """Return the similarity of the sorted distinct words that say something, else of all of them
    (Ratcliff and Obershelp)."""
    return difflib.SequenceMatcher(None, _telling(one), _telling(other)).ratio()


def _telling(text: str) -> list[str]:
    every = words(text)
    return [w for w in every if w not in _COMMON and len(w) > 1] or every


def stem(word: str) -> str:
    """Return what the word has in common with others of its stem, as far as endings tell."""
    end = _ENDINGS.search(word, 3)
    return _TWICE.sub(r"\1", word[: end.start()] if end else word)


def subject(text: str) -> frozenset[str]:
    """Return the stems of the words that say what the text is about."""
    return frozenset(stem(w) for w in words(text) if w not in _COMMON and len(w) > 1)


def alike(one: str, other: str) -> float:
    """Return how alike the texts are where that is enough to say so, else 0: by their words as
    they stand (ALIKE), or by the stems of those that say what they are about (STEMS)."""
    mine, theirs = subject(one), subject(other)
    both = len(mine & theirs)
    stems = 2 * both / max(1, len(mine) + len(theirs)) if both >= 2 else 0.0
    by_word = ratio(one, other)
    return max(by_word if by_word >= ALIKE else 0.0, stems if stems >= STEMS else 0.0)


def about_the_same(one: str, other: str) -> float:
    """Return how much of what the shorter text is about the longer one is about, too, where that
    is enough to say so (SHARED), else 0. One word alone is not."""
    mine, theirs = subject(one), subject(other)
    both = len(mine & theirs)
    share = both / max(1, min(len(mine), len(theirs)))
    return share if both >= 2 and share >= SHARED else 0.0


def instead(failed: str, now: str, *, titled: bool = False) -> str:
    """Return what the second text, alike as it is, puts in the place of what the first one says:
    another choice, number or order, in words. "" if it says the same.

    ``titled`` is true where the first is a title that may go on to say why it failed: then only
    one word in the place of another counts.
    """
    mine, theirs = _in_order(failed), _in_order(now)
    gone = [stem for stem in mine if stem not in theirs and stem not in _VERDICTS]
    new = [stem for stem in theirs if stem not in mine and stem not in _VERDICTS]
    was, becomes = set(_NUMBER.findall(failed)), set(_NUMBER.findall(now))
    if was - becomes and becomes - was:
        others, ones = ", ".join(sorted(becomes - was)), ", ".join(sorted(was - becomes))
        return f"{others} instead of {ones}"
    if "without" in gone or "without" in new:
        return "without" if "without" in new else "not without"
    if gone and new and _joined(gone, mine) != _joined(new, theirs):
        same_order = [s for s in mine if s in theirs] == [s for s in theirs if s in mine]
        if same_order and (not titled or len(gone) == len(new) == 1):
            return f"{_said(new, theirs)} instead of {_said(gone, mine)}"
    if not gone and not new and list(mine) != list(theirs) and _directed(failed, now):
        moved = [n for n, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other]
        if len(moved) == 2:
            return "the other way round"
    return ""


def _in_order(text: str) -> dict[str, str]:
    """Return the words that say what the text is about, by stem, in their order."""
    plain = _HUMP.sub(" ", text[:_MOST_CHARS]).replace("_", " ").lower()
    found: dict[str, str] = {}
    for word in re.findall(r"\w+", plain):
        if word not in _COMMON and len(word) > 1 and not word.isdigit():
            found.setdefault(stem(word), word)
    return found


def _joined(stems: list[str], by_stem: dict[str, str]) -> str:
    """Return the same for ``monkey-patching`` and for ``monkeypatch``."""
    return stem("".join(by_stem[one] for one in stems))


def _said(stems: list[str], by_stem: dict[str, str]) -> str:
    return " ".join(by_stem[one] for one in stems)


def _directed(one: str, other: str) -> bool:
    return bool(_DIRECTED & set(words(one)) & set(words(other)))


def terms(text: str) -> list[Term]:
    """Return what to look for to find texts that are like this one: its longest words, by how
    they begin."""
    longest = sorted(subject(text), key=lambda w: (-len(w), w))[:_MOST_TERMS]
    return [Term((w[:6],), begins=True) for w in longest]
