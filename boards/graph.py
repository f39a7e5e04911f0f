"""The drawing of cards that wait for one another: layers from left to right, as SVG is laid out.

A card stands right of everything it waits for. A layer that is tall is folded into columns, and
each layer is put in the order of what it hangs on, so that lines cross seldom.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Case, When
from django.utils.translation import gettext as _

from boards.models import Card, Dependency

#: Cards drawn at most: more are no picture any more.
MOST = 200
#: A layer taller than this is folded.
TALL = 12
# In the drawing's own units, which are pixels where it is not scaled.
WIDE, HIGH, ACROSS, DOWN, EDGE = 150, 40, 46, 14, 8
FOLDED_ACROSS = 12
SWEEPS = 4
_OPEN = frozenset(set(Card.State) - {Card.State.COMPLETED, Card.State.CANCELLED})


@dataclass(slots=True)
class Node:
    """A card where it is drawn; ``row`` counts from the top, for the arrow keys."""

    card: Card
    x: int = 0
    y: int = 0
    row: int = 0
    critical: bool = False
    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)

    @property
    def says(self) -> str:
        """What it is called: the card, its state, and what it waits for."""
        told = f"{self.card.key} {self.card.title[:120]}, {self.card.get_state_display()}"
        if self.before:
            keys = ", ".join(n.card.key for n in self.before[:8])
            told += "; " + _("after {keys}").format(keys=keys)
        return told

    @property
    def short(self) -> str:
        title = self.card.title
        return title if len(title) <= 22 else title[:21] + "…"


@dataclass(slots=True)
class Line:
    """From a card to one that waits for it."""

    path: str
    critical: bool
    done: bool


@dataclass(slots=True)
class Graph:
    """The drawing; ``left_out`` cards hang together too, and are only in the list."""

    nodes: list[Node] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    width: int = 0
    height: int = 0
    left_out: int = 0


def drawn(goal_id: UUID) -> Graph:
    """Return the drawing of the goal's cards that wait for each other, in two statements.

    Where there are more than MOST, those that are not done come first.
    """
    rows = Dependency.objects.filter(card__goal=goal_id, card__archived_at=None)
    read = rows.values_list(
        "card_id", "depends_on_id", "depends_on__goal_id", "depends_on__archived_at"
    )
    # Which parents are the goal's is asked here: asked of SQLite, it tries every pair of cards.
    edges = [
        (card_id, parent_id)
        for card_id, parent_id, parents_goal, archived in read[: MOST * 20]
        if parents_goal == goal_id and archived is None
    ]
    ids = {pk for edge in edges for pk in edge}
    if not ids:
        return Graph()
    fields = ("key", "number", "title", "state", "board_id")
    done = Case(When(state__in=_OPEN, then=0), default=1)
    kept = list(Card.objects.filter(pk__in=ids).only(*fields).order_by(done, "number")[:MOST])
    nodes = {card.pk: Node(card) for card in kept}
    for card_id, parent_id in edges:
        if card_id in nodes and parent_id in nodes:
            nodes[card_id].before.append(nodes[parent_id])
            nodes[parent_id].after.append(nodes[card_id])
    graph = Graph(left_out=len(ids) - len(kept))
    layers = _layers(nodes.values())
    _place(graph, layers)
    _mark_critical(layers)
    graph.nodes = sorted(nodes.values(), key=lambda node: (node.row, node.x))
    graph.lines = [_line(parent, node) for node in graph.nodes for parent in node.before]
    return graph


def _layers(nodes: Collection[Node]) -> list[list[Node]]:
    """Return the nodes by the longest way to them, each layer in an order with few crossings."""
    depth: dict[UUID, int] = {}
    waiting = {node.card.pk: len(node.before) for node in nodes}
    free = [node for node in nodes if not node.before]
    layers: list[list[Node]] = []
    for node in free:  # grows while it is walked
        at = max((depth[p.card.pk] + 1 for p in node.before), default=0)
        depth[node.card.pk] = at
        while len(layers) <= at:
            layers.append([])
        layers[at].append(node)
        for child in node.after:
            waiting[child.card.pk] -= 1
            if not waiting[child.card.pk]:
                free.append(child)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        ordered = layers if forward else layers[::-1]
        place = {n.card.pk: i for layer in layers for i, n in enumerate(layer)}
        for layer in ordered:
            layer.sort(key=lambda n: _middle(n.before if forward else n.after, place, n))
            place.update({n.card.pk: i for i, n in enumerate(layer)})
    return layers


def _middle(beside: Sequence[Node], place: dict[UUID, int], node: Node) -> float:
    if not beside:
        return float(place[node.card.pk])
    return sum(place[n.card.pk] for n in beside) / len(beside)


def _place(graph: Graph, layers: Iterable[list[Node]]) -> None:
    x = EDGE
    for layer in layers:
        columns = -(-len(layer) // TALL)
        high = -(-len(layer) // columns)
        for n, node in enumerate(layer):
            node.row = n % high
            node.x = x + (n // high) * (WIDE + FOLDED_ACROSS)
            node.y = EDGE + node.row * (HIGH + DOWN)
        graph.height = max(graph.height, 2 * EDGE + high * (HIGH + DOWN) - DOWN)
        x += columns * (WIDE + FOLDED_ACROSS) - FOLDED_ACROSS + ACROSS
    graph.width = x - ACROSS + EDGE


def _mark_critical(layers: Sequence[list[Node]]) -> None:
    """Mark the longest chain of cards that are not done: nothing is done before it is."""
    length: dict[UUID, int] = {}
    best: Node | None = None
    for node in (n for layer in layers for n in layer):
        if node.card.state in _OPEN:
            length[node.card.pk] = 1 + max(
                (length.get(p.card.pk, 0) for p in node.before), default=0
            )
            if best is None or length[node.card.pk] > length[best.card.pk]:
                best = node
    if best is None or length[best.card.pk] < 2:
        return
    while best is not None:
        best.critical = True
        chain = [p for p in best.before if p.card.pk in length]
        best = max(chain, key=lambda p: length[p.card.pk], default=None)


def _line(parent: Node, node: Node) -> Line:
    x0, y0 = parent.x + WIDE, parent.y + HIGH // 2
    x1, y1 = node.x, node.y + HIGH // 2
    bend = min(ACROSS, max(12, (x1 - x0) // 2))
    return Line(
        f"M{x0} {y0}C{x0 + bend} {y0} {x1 - bend} {y1} {x1} {y1}",
        parent.critical and node.critical,
        parent.card.state == Card.State.COMPLETED,
    )
