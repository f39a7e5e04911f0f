/* Cards carried by mouse, pen or finger. */
import {fingers} from "../finger.js";
import {
  attachClosestEdge, autoScrollForElements, combine, draggable, dropTargetForElements,
  extractClosestEdge, monitorForElements,
} from "../../vendor/pragmatic-dnd.js";
import {$, $$, board, cardOf, cell, columnOf, laned, listOf, mayWrite, placeIn, tabs} from "./dom.js";
import {fold} from "./columns.js";
import {feed} from "./feed.js";
import {openMenu} from "./menu.js";
import {move, moveAll} from "./moves.js";
import {selected} from "./select.js";

const equipped = new WeakSet();
/* Held over what is folded up for so long, a card has it opened. */
const OPENS_MS = 600;

export function equip(card) {
  if (!mayWrite || equipped.has(card)) return;
  equipped.add(card);
  combine(
    draggable({
      element: card,
      canDrag: ({input}) => !document.elementFromPoint(input.clientX, input.clientY)?.closest("textarea, input, button, form"),
      getInitialData: () => ({card: card.dataset.card}),
      onGenerateDragPreview() {
        // Only for the picture that is carried.
        const count = together(card).length;
        if (count < 2) return;
        card.dataset.carried = count;
        requestAnimationFrame(() => delete card.dataset.carried);
      },
    }),
    dropTargetForElements({
      element: card,
      canDrop: ({source}) => source.data.card !== card.dataset.card,
      getData: ({input, element}) => attachClosestEdge({over: card.dataset.card}, {input, element, allowedEdges: ["top", "bottom"]}),
    }),
  );
}

/* The place that is marked as the one where a card would land. */
const PARTS = ["column", "card", "edge", "lane"];
let marked = null;

function clearEdges() {
  marked = null;
  $$(".edge-top, .edge-bottom").forEach(card => card.classList.remove("edge-top", "edge-bottom"));
  $$(".over").forEach(target => target.classList.remove("over"));
}

/* A picked card takes the other picked ones along. */
function together(card) {
  const cards = selected();
  return cards.includes(card) ? cards : [card];
}

/* What is folded up under the card, and what opens it. */
let hovered = null, opening = 0;
function hover(place) {
  const target = place?.lane ?? (place?.column.matches(".rail") ? place.column : null);
  if (target === hovered) return;
  clearTimeout(opening);
  hovered = target;
  if (!target) return;
  opening = setTimeout(() => {
    if (target.matches(".lane.folded")) $("[data-fold-lane]", target).click();
    else if (target.matches(".col.rail")) fold(target, {focus: false});
  }, OPENS_MS);
}

/* What a drag does, whoever carries it: {column, card, edge} says where, null nowhere. */
const drags = {
  lift(card) {
    together(card).forEach(one => one.classList.add("ghost"));
    feed.hold();
  },
  over(place) {
    // Told with every move of the hand: only another place is drawn anew.
    if (PARTS.every(part => place?.[part] === marked?.[part])) return;
    clearEdges();
    marked = place;
    place?.card?.classList.add(`edge-${place.edge}`);
    place?.column.classList.add("over");
    place?.lane?.classList.add("over");
    hover(place);
    if (place) tabs.get(place.column.id)?.classList.add("over");
  },
  drop(card, {column, card: other, edge}) {
    const where = other ? (edge === "top" ? {before: other} : {after: other}) : {};
    const cards = together(card);
    if (cards.length === 1) { move(card, column, where); return; }
    // Where the others go is beside one that stays.
    if (!cards.includes(other)) moveAll(cards, column, where);
  },
  end(card) {
    clearEdges();
    hover(null);
    $$(".card.ghost").forEach(one => one.classList.remove("ghost"));
    feed.release();
  },
  rest: card => openMenu(card, $(".kb", card)),
};

/* A lane that is folded up takes a card into the column where it is. */
function inLane(lane, card) {
  const column = cell(columnOf(card).dataset.column, lane.dataset.lane);
  return column && {column, lane};
}

function placeOf({current: {dropTargets, input}}, card) {
  const column = dropTargets.find(target => target.data.column);
  const over = dropTargets.find(target => target.data.over);
  const lane = !column && dropTargets.find(target => target.data.lane);
  if (lane) return inLane(lane.element, card);
  if (!over) return column ? placeIn(column.element, input.clientY, card) : null;
  return {column: column.element, card: over.element, edge: extractClosestEdge(over.data)};
}

/* Makes columns, and lanes that are folded up, take cards; those of a board drawn anew, too. */
export function equipColumns() {
  if (!mayWrite) return;
  for (const column of $$(".col", board)) {
    if (equipped.has(column)) continue;
    equipped.add(column);
    dropTargetForElements({element: column, getData: () => ({column: column.dataset.column})});
    if (!laned()) autoScrollForElements({element: listOf(column)});
  }
  for (const lane of $$(".lane", board)) {
    if (equipped.has(lane)) continue;
    equipped.add(lane);
    dropTargetForElements({element: lane, canDrop: () => lane.matches(".folded"), getData: () => ({lane: lane.dataset.lane})});
  }
}

if (mayWrite) {
  equipColumns();
  autoScrollForElements({element: board});
  monitorForElements({
    onDragStart: ({source}) => drags.lift(source.element),
    onDrag: ({source, location}) => drags.over(placeOf(location, source.element)),
    onDropTargetChange: ({source, location}) => drags.over(placeOf(location, source.element)),
    onDrop({source, location}) {
      const card = cardOf(source.data.card), place = card && placeOf(location, card);
      if (place && card) drags.drop(card, place);
      drags.end(source.element);
    },
  });
  fingers(board, tabs, drags, inLane);
  $$(".card").forEach(equip);
}
