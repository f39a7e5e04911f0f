/* Cards picked to be changed together: with X, a click on the box, Ctrl or Shift and a click. */
import {announce} from "../api.js";
import {ngettext} from "../words.js";
import {$, $$, board, cardOf, cardsIn, columnOf, mayWrite} from "./dom.js";

const picked = new Set();
const bar = document.getElementById("bulk");
let anchor = null, told = 0;

/* The picked cards that are shown, in the order of the board. */
export const selected = () => picked.size ? $$(".card", board).filter(card => picked.has(card.dataset.card)) : [];

function mark() {
  for (const card of $$(".card", board)) {
    const on = picked.has(card.dataset.card), box = $("[data-pick]", card);
    card.classList.toggle("sel", on);
    if (box) box.checked = on;
  }
  const count = selected().length;
  if (!bar) return;
  bar.hidden = !count;
  board.classList.toggle("picking", count > 0);
  $("[data-picked]", bar).textContent = ngettext("{n} selected", "{n} selected", count);
  // One sentence for what a row of keys did.
  clearTimeout(told);
  told = setTimeout(() => announce(ngettext("{n} card selected.", "{n} cards selected.", count)), 400);
}

/* After cards came and went: what is no longer shown is no longer picked. */
export function keepPicked() {
  if (!picked.size) return;
  for (const id of picked) if (!cardOf(id)) picked.delete(id);
  mark();
}

export function pick(card, on = !picked.has(card.dataset.card)) {
  on ? picked.add(card.dataset.card) : picked.delete(card.dataset.card);
  anchor = on ? card : null;
  mark();
}

export function clear() {
  if (!picked.size) return false;
  picked.clear();
  anchor = null;
  mark();
  return true;
}

/* Everything from the card picked last to this one; across columns, only this one. */
export function extend(card) {
  const cards = cardsIn(columnOf(card)), from = anchor?.isConnected ? cards.indexOf(anchor) : -1, to = cards.indexOf(card);
  if (from < 0) return pick(card, true);
  const last = anchor;
  for (const other of cards.slice(Math.min(from, to), Math.max(from, to) + 1)) picked.add(other.dataset.card);
  mark();
  anchor = last;
}

/* All of a column; all that is shown where they are picked already. */
export function pickAll(card) {
  const column = card ? cardsIn(columnOf(card)) : [], all = column.length && !column.every(one => picked.has(one.dataset.card)) ? column : $$(".card", board);
  all.forEach(one => picked.add(one.dataset.card));
  mark();
}

if (mayWrite && bar) {
  board.addEventListener("click", event => {
    const card = event.target.closest(".card");
    if (!card) return;
    if (event.target.matches("[data-pick]")) {
      if (event.shiftKey) { event.preventDefault(); extend(card); setTimeout(mark); } else pick(card, event.target.checked);
    } else if (event.shiftKey || event.ctrlKey || event.metaKey) {
      // With Ctrl on its words a link opens elsewhere, as everywhere; it covers the whole card.
      const link = event.target.closest("a"), box = link?.getBoundingClientRect();
      if (link && !event.shiftKey && event.clientY >= box.top && event.clientY <= box.bottom) return;
      if (event.target.closest("button, summary, textarea, input")) return;
      event.preventDefault();
      event.shiftKey ? extend(card) : pick(card);
      getSelection()?.removeAllRanges();
    }
  });
}
