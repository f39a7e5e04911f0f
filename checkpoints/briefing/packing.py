"""Sections cut to a budget: who gets how much room, and what is left out of each.

What must not be forgotten is named before anything is told at length. Then every section gets
its floor, the important ones before the others, as long as there is room; what remains is shared
by weight among those that want more. Room that a section leaves goes to those that had to cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from checkpoints.briefing.quoting import Excerpt, block, phrase
from checkpoints.tokens import tokens_in

#: An item of a list takes at most half of the room that is left, but may always take this much.
ITEM = 48
#: A text gets this much, if it is there, before the next one gets any.
LEAST = 48
#: A section that can't even have this much has nothing.
SCANT = 24
#: An aside up to this many characters goes on one line.
ASIDE = 200


@dataclass(slots=True)
class Text:
    """A text to be set apart, with a line of our own before it."""

    excerpt: Excerpt
    who: str
    what: str  # names it where it is cut: "description"
    trusted: bool = False
    label: str = ""
    aside: bool = False  # goes on one line where it is short

    def shown(self, tokens: int) -> tuple[str, int]:
        """Return the text set apart in at most ``tokens``, and how much of it is cut."""
        cut = self.excerpt.length
        before = f"{self.label} " if self.label else ""
        if not (self.aside and cut <= ASIDE and "\n" not in self.excerpt.head.strip()):
            label = f"{self.label}\n" if self.label else ""
            own = tokens - _size(label)
            text, cut = block(self.excerpt, self.who, trusted=self.trusted, tokens=own)
            if text:
                return label + text, cut
        line, cut = phrase(self.excerpt, self.who, tokens=tokens - _size(before))
        return (before + line, cut) if line else ("", cut)


@dataclass(slots=True)
class Item:
    """A line of ours and the texts that go with it."""

    line: str = ""
    texts: list[Text] = field(default_factory=list)


@dataclass(slots=True)
class Section:
    """What may be told under one heading. ``items`` come in the order in which they matter."""

    title: str
    what: str  # names the items that are left out: "decisions"
    weight: float
    floor: int
    importance: int  # 1 is served first
    items: list[Item]
    fetch: str  # the call that gets the whole of it
    tool: str  # and what does so over MCP
    total: int = 0  # items there are, where that is more than are listed
    lead: str = ""
    listed: bool = True  # a list of like items, rather than parts of one whole
    #: Lines that stand for the items left out after so many, each shorter than the one before.
    rest: Callable[[int], Iterable[str]] | None = None
    #: The shortest of these that names them: what must not be forgotten has room for it.
    briefly: Callable[[int], str] | None = None

    @property
    def want(self) -> int:
        """About how much room it would fill, erring high."""
        return 24 + len(self.lead) // 2 + sum(_want(item) for item in self.items)

    @property
    def head(self) -> str:
        return f"## {self.title}\n" + (f"{self.lead}\n" if self.lead else "")

    @property
    def naming(self) -> int:
        """The least room in which whatever must be named in it is."""
        return tokens_in(self.head) + 1 + _size(self.briefly(0)) if self.briefly else 0


def _want(item: Item) -> int:
    size = len(item.line) // 2 if item.line.isascii() else 2 * len(item.line)
    for text in item.texts:
        # Of Chinese, Japanese and Korean a character may take more than a token.
        length = text.excerpt.length
        size += 40 + (length // 2 if text.excerpt.head.isascii() else 2 * length)
    return size


@dataclass(slots=True)
class Packed:
    """A section as it fits: its text, and what it leaves out by name."""

    section: Section
    text: str = ""
    tokens: int = 0
    omitted: Counter[str] = field(default_factory=Counter)


def pack(sections: Sequence[Section], room: int) -> list[Packed]:
    """Return the sections, in their order, in at most ``room`` tokens together."""
    wanted = [s for s in sections if s.items]
    by_importance = sorted(wanted, key=lambda s: s.importance)
    rooms = _share_out(by_importance, room)
    packed = {}
    spare = room - sum(rooms)
    for section, own in zip(by_importance, rooms, strict=True):
        packed[section.title] = _cut(section, own + spare)
        spare += own - packed[section.title].tokens
    for section in by_importance:
        before = packed[section.title]
        if before.omitted and spare > 0:
            after = _cut(section, before.tokens + spare)
            spare -= after.tokens - before.tokens
            packed[section.title] = after
    return [packed[s.title] for s in wanted]


def _share_out(sections: Sequence[Section], room: int) -> list[int]:
    """Return the room of each: what names its items, and floors in order, first; the rest by
    weight up to the wants."""
    wants = [s.want for s in sections]
    # In the least room a quarter is less than the heading and a line of the next step.
    rooms, most, least = [], room // 3, max(room // 4, 2 * SCANT)
    for section in sections:
        rooms.append(min(section.naming, most))
        room -= rooms[-1]
    for n, (section, want) in enumerate(zip(sections, wants, strict=True)):
        floor = min(max(rooms[n], min(section.floor, least)), want, rooms[n] + room)
        floor = floor if floor >= min(want, SCANT) else 0
        room -= floor - rooms[n]
        rooms[n] = floor
    hungry = [n for n, want in enumerate(wants) if rooms[n] and want > rooms[n]]
    while hungry:
        weights = sum(sections[n].weight for n in hungry)
        fair = {n: int(room * sections[n].weight / weights) for n in hungry}
        sated = [n for n in hungry if wants[n] - rooms[n] <= fair[n]]
        for n in sated or hungry:
            more = wants[n] - rooms[n] if sated else fair[n]
            rooms[n] += more
            room -= more
        hungry = [n for n in hungry if n not in sated] if sated else []
    return rooms


def _cut(section: Section, room: int) -> Packed:
    """Return as much of the section as takes ``room`` tokens."""
    packed = Packed(section)
    head = section.head
    spent = tokens_in(head) + 1
    pieces: list[str] = []
    shown = 0
    total = max(section.total, len(section.items))
    for n, item in enumerate(section.items):
        left = room - spent
        if section.listed:
            more = n + 1 < total
            if more and section.rest:
                left -= _behind(section, n + 1, room // 3)
            most = min(left, max(left // 2, ITEM, _size(item.line))) if more else left
        else:
            lines = _size(item.line)
            most = left - sum(_size(i.line) for i in section.items[n + 1 :])
            if behind := sum(len(i.texts) for i in section.items[n:]):
                most = lines + (most - lines) * len(item.texts) // behind
            most = min(left, max(most, lines + LEAST * len(item.texts)))
        text, cuts = _item(item, most)
        if not text:
            if section.listed:
                break
            packed.omitted += cuts
            continue
        packed.omitted += cuts
        pieces.append(text)
        spent += _size(text)
        shown += 1
    if section.listed and total > shown:
        packed.omitted[section.what] += total - shown
        if section.rest:
            line = next((x for x in section.rest(shown) if spent + _size(x) <= room), "")
            pieces += [line] if line else []
            spent += _size(line)
    if pieces:
        packed.text = head + "\n".join(pieces) + "\n"
        packed.tokens = spent
    return packed


def _behind(section: Section, shown: int, room: int) -> int:
    """Return the room for what names the items behind the first ``shown``: rather none at length
    than some that are not even named."""
    assert section.rest is not None
    size = 0
    for line in section.rest(shown):
        size = _size(line)
        if size <= room:
            break
    return max(size, _size(section.briefly(shown))) if section.briefly else size


def _item(item: Item, room: int) -> tuple[str, Counter[str]]:
    """Return the item in at most ``room`` tokens, and how many characters of what it leaves out."""
    cuts: Counter[str] = Counter()
    pieces = [item.line] if item.line else []
    left = room - (_size(item.line) if item.line else 0)
    if left < 0:
        pieces, left = [], 0
        cuts.update({f"characters of {t.what}": t.excerpt.length for t in item.texts})
        return "", cuts
    for n, text in enumerate(item.texts):
        behind = len(item.texts) - n - 1
        own = max(left // (behind + 1), min(left - 16 * behind, LEAST))
        shown, cut = text.shown(own - 2)
        if shown and "\n" not in shown and item.line.startswith("- "):
            shown = f"  {shown}"
        if cut:
            cuts[f"characters of {text.what}"] += cut
        if shown:
            pieces.append(shown)
            left -= _size(shown)
    return "\n".join(pieces), cuts


def _size(text: str) -> int:
    """Return the tokens of a piece and of the line break after it."""
    return tokens_in(text) + 1 if text else 0
