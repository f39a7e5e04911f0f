/* Cards carried by mouse, pen or finger. */
import {fingers} from "../finger.js";
import {
  attachClosestEdge, autoScrollForElements, combine, draggable, dropTargetForElements,
  extractClosestEdge, monitorForElements,
} from "../../vendor/pragmatic-dnd.js";
import {$$, board, cardOf, listOf, mayWrite, tabs} from "./dom.js";
import {feed} from "./feed.js";
import {move, moveAll} from "./moves.js";
import {selected} from "./select.js";

const equipped = new WeakSet();

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

function clearEdges() {
  $$(".edge-top, .edge-bottom").forEach(card => card.classList.remove("edge-top", "edge-bottom"));
  $$(".over").forEach(target => target.classList.remove("over"));
}

/* A picked card takes the other picked ones along. */
function together(card) {
  const cards = selected();
  return cards.includes(card) ? cards : [card];
}

/* What a drag does, whoever carries it: {column, card, edge} says where, null nowhere. */
const drags = {
  lift(card) {
    together(card).forEach(one => one.classList.add("ghost"));
    feed.hold();
  },
  over(place) {
    clearEdges();
    place?.card?.classList.add(`edge-${place.edge}`);
    place?.column.classList.add("over");
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
    $$(".card.ghost").forEach(one => one.classList.remove("ghost"));
    feed.release();
  },
};

function placeOf({current: {dropTargets}}) {
  const column = dropTargets.find(target => target.data.column);
  const over = dropTargets.find(target => target.data.over);
  return column ? {column: column.element, card: over?.element, edge: over && extractClosestEdge(over.data)} : null;
}

if (mayWrite) {
  for (const column of $$(".col")) {
    dropTargetForElements({element: column, getData: () => ({column: column.dataset.column})});
    autoScrollForElements({element: listOf(column)});
  }
  autoScrollForElements({element: board});
  monitorForElements({
    onDragStart: ({source}) => drags.lift(source.element),
    onDrag: ({location}) => drags.over(placeOf(location)),
    onDropTargetChange: ({location}) => drags.over(placeOf(location)),
    onDrop({source, location}) {
      const place = placeOf(location), card = cardOf(source.data.card);
      if (place && card) drags.drop(card, place);
      drags.end(source.element);
    },
  });
  fingers(board, tabs, drags);
  $$(".card").forEach(equip);
}
