/* The keyboard: one tab stop per column, and what single keys do. */
import {$, $$, beside, board, cardOf, cardsIn, cellsOf, columnOf, listOf, mayWrite, narrow} from "./dom.js";
import {compose} from "./compose.js";
import {archive, openFor} from "./bulk.js";
import {openMenu} from "./menu.js";
import {popupIsOpen} from "./popup.js";
import {clear, extend, pick, pickAll, selected} from "./select.js";
import {step} from "./moves.js";
import {singleKeys} from "../commands.js";
import {redoLast, undoLast} from "../undo.js";

/* One tab stop per column: the card that was focused last in it, else its first. */
let lastFocus = null;
export const returnFocus = () => {
  if (document.activeElement === document.body && lastFocus?.isConnected) lastFocus.focus({preventScroll: true});
};
export function rove() {
  for (const column of $$(".col", board)) {
    const list = listOf(column), stop = column.stop?.parentElement === list ? column.stop : $(":scope > .card", list);
    if (list.tabIndex !== (stop ? -1 : 0)) list.tabIndex = stop ? -1 : 0;
    for (const node of $$(":is(.t, .kb)", list)) {
      const index = stop.contains(node) ? 0 : -1;
      if (node.tabIndex !== index) node.tabIndex = index;
    }
  }
}
board.addEventListener("focusin", event => {
  lastFocus = event.target;
  const card = event.target.closest(".card");
  if (!card || columnOf(card).stop === card) return;
  columnOf(card).stop = card;
  rove();
});

/* The card beside the board, where there is room; true if somebody shows it there. */
const drawer = document.getElementById("drawer");
function peek(card) {
  if (!drawer || narrow.matches || !card) return false;
  const {key, card: id} = card.dataset;
  return !card.dispatchEvent(new CustomEvent("holdfast:open", {detail: {key, id}, bubbles: true, cancelable: true}));
}

// A link all the same: with a modifier, or on a small screen, it goes to the card's page.
board.addEventListener("click", event => {
  if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const title = event.target.closest(".card .t");
  if (title && peek(title.closest(".card"))) event.preventDefault();
});

/* The filter, at the worker to show the cards of. */
function byWorker() {
  $("[data-filter-open]")?.click();
  const field = $("#filter [name=worker]");
  field?.focus();
  field?.select();
}

/* What keys are about: the card that has the focus, or that is shown beside where no card has. */
function subject() {
  const {activeElement: at} = document, beside = drawer && !drawer.hidden && (at === document.body || drawer.contains(at)) && $("aside", drawer);
  return at?.closest?.(".card") ?? (beside && cardOf(beside.dataset.card)) ?? null;
}

addEventListener("keydown", event => {
  const card = subject();
  if (event.altKey && card && mayWrite && event.key.startsWith("Arrow")) {
    event.preventDefault();
    step(card, event.key);
    return;
  }
  if (event.target.matches("input:not([type=checkbox]), textarea, select") || $("dialog[open]") || popupIsOpen()) return;
  const chord = event.ctrlKey || event.metaKey;
  if (chord && event.key === "z" && mayWrite) { event.preventDefault(); undoLast(); return; }
  if (chord && event.key === "Z" && mayWrite) { event.preventDefault(); redoLast(); return; }
  if (chord && event.key === "a" && mayWrite) { event.preventDefault(); pickAll(card); return; }
  if (event.key === "Escape" && clear()) { event.preventDefault(); return; }
  if (chord || event.altKey) return;
  const go = other => {
    if (!other) return other;
    $(".t", other).focus();
    if (drawer && !drawer.hidden) peek(other);
    return other;
  };
  const column = card && columnOf(card), columns = card ? beside(column) : $$(".col", board);
  const sideways = by => {
    for (let n = columns.indexOf(column) + by; n >= 0 && n < columns.length; n += by) {
      if (cardsIn(columns[n]).length && !columns[n].matches(".rail")) return columns[n].stop?.isConnected ? columns[n].stop : cardsIn(columns[n])[0];
    }
  };
  // With lanes a column goes on in the next lane.
  const within = by => {
    const cards = card ? cellsOf(column.dataset.column).flatMap(cardsIn) : [];
    return card ? cards[cards.indexOf(card) + by] : $(".card", board);
  };
  if (!singleKeys()) return;
  const cards = () => selected().length ? selected() : card ? [card] : [];
  const keys = {
    j: () => go(within(1)), k: () => go(within(-1)), l: () => go(card ? sideways(1) : $(".card")), h: () => go(card && sideways(-1)),
    " ": () => peek(card), "/": () => $("#q")?.focus(), f: () => $("[data-filter-open]")?.click(), a: byWorker,
  };
  const changes = {
    m: () => selected().length ? openFor("move", selected(), $("#bulk [data-bulk=move]")) : card && openMenu(card, $(".kb", card)),
    c: compose, z: undoLast, Z: redoLast,
    x: () => card && pick(card), X: () => card && extend(card),
    J: () => card && (pick(card, true), go(within(1)) && extend(document.activeElement.closest(".card"))),
    K: () => card && (pick(card, true), go(within(-1)) && extend(document.activeElement.closest(".card"))),
    p: () => openFor("priority", cards(), card ? $(".kb", card) : $("#bulk [data-bulk=priority]")),
    L: () => openFor("label", cards(), card ? $(".kb", card) : $("#bulk [data-bulk=label]")),
    e: () => cards().length && archive(cards()),
  };
  if (mayWrite) Object.assign(keys, changes);
  // Space on a button presses it.
  if (event.key === " " && !event.target.matches(".card .t")) return;
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
