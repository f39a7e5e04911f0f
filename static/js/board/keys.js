/* The keyboard: one tab stop per column, and what single keys do. */
import {$, $$, board, cardsIn, columnOf, listOf, mayWrite} from "./dom.js";
import {compose} from "./compose.js";
import {menuIsOpen, openMenu} from "./menu.js";
import {step, undo} from "./moves.js";

/* One tab stop per column: the card that was focused last in it, else its first. */
let lastFocus = null;
export const returnFocus = () => {
  if (document.activeElement === document.body && lastFocus?.isConnected) lastFocus.focus({preventScroll: true});
};
export function rove() {
  for (const column of $$(".col", board)) {
    const cards = cardsIn(column), stop = cards.find(card => card === column.stop) ?? cards[0];
    listOf(column).tabIndex = cards.length ? -1 : 0;
    for (const card of cards) {
      for (const node of $$(".t, .kb", card)) node.tabIndex = card === stop ? 0 : -1;
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

const single = document.getElementById("single-keys");
single.checked = localStorage.getItem("single-keys") !== "off";
single.addEventListener("change", () => localStorage.setItem("single-keys", single.checked ? "on" : "off"));

addEventListener("keydown", event => {
  const card = document.activeElement?.closest?.(".card");
  if (event.altKey && card && mayWrite && event.key.startsWith("Arrow")) {
    event.preventDefault();
    step(card, event.key);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, textarea, select") || $("dialog[open]") || menuIsOpen()) return;
  const go = other => other && $(".t", other).focus();
  const column = card && columnOf(card), columns = $$(".col");
  const sideways = by => {
    for (let n = columns.indexOf(column) + by; n >= 0 && n < columns.length; n += by) {
      if (cardsIn(columns[n]).length && !columns[n].matches(".rail")) return columns[n].stop?.isConnected ? columns[n].stop : cardsIn(columns[n])[0];
    }
  };
  const within = by => card ? cardsIn(column)[cardsIn(column).indexOf(card) + by] : $(".card");
  if (!single.checked && event.key !== "?") return;
  const keys = {
    j: () => go(within(1)), k: () => go(within(-1)), l: () => go(card ? sideways(1) : $(".card")), h: () => go(card && sideways(-1)),
    m: () => card && mayWrite && openMenu(card, $(".kb", card)),
    c: () => mayWrite && compose(), z: undo, "/": () => $("#q")?.focus(),
    "?": () => document.getElementById("keys").showModal(),
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
