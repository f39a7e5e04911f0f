/* What is done to all picked cards at once, and undone at once. */
import {announce, call, toast} from "../api.js";
import {after, pushUndo} from "../undo.js";
import {gettext, ngettext} from "../words.js";
import {refresh} from "./cards.js";
import {$, $$, cardOf} from "./dom.js";
import {move, moveAll, tellAt} from "./moves.js";
import {send} from "./queue.js";
import {popup} from "./popup.js";
import {clear, selected} from "./select.js";

const MOST = 200;
const bar = document.getElementById("bulk");

/* Returns the outcomes of the cards that were changed; the others say at the card why not. While
   the server is away it is kept for it. */
async function change(ids, action, fields = {}) {
  const done = [];
  let refused = 0, kept = 0;
  for (let n = 0; n < ids.length; n += MOST) {
    const some = ids.slice(n, n + MOST), versions = Object.fromEntries(some.map(id => [id, null]));
    const what = ngettext("{n} card changed", "{n} cards changed", some.length);
    const told = await send({path: "/cards/bulk", body: {cards: some, action, ...fields}, versions, what});
    if (told.queued) {
      kept += some.length;
      some.forEach(id => cardOf(id)?.classList.add("pending"));
      continue;
    }
    for (const result of told.results) {
      if (result.ok) { done.push(result); continue; }
      refused++;
      const card = cardOf(result.card);
      if (card) tellAt(card, result.detail);
    }
  }
  if (kept) {
    const text = ngettext("{n} card will be changed when the server is back.", "{n} cards will be changed when the server is back.", kept);
    announce(text);
    toast(text);
    clear();
    return done;
  }
  if (refused) announce(ngettext("{n} card was refused; it says why.", "{n} cards were refused; they say why.", refused), true);
  await refresh(ids).catch(() => {});
  return done;
}

/* Changes the cards; `back(outcomes)` gives what takes it back, if anything does. */
function all(cards, action, fields, label, back) {
  const ids = cards.map(card => card.dataset.card);
  return after((async () => {
    try {
      let done = await change(ids, action, fields);
      if (!done.length) return;
      clear();
      const text = label(done.length);
      if (!back) { toast(text); announce(text); return; }
      announce(text);
      pushUndo({
        label: text,
        undo: () => back(done),
        redo: async () => { done = await change(done.map(one => one.card), action, fields); },
      });
    } catch (refusal) {
      announce(refusal.message, true);
      toast(refusal.message);
    }
  })());
}

/* Each card gets back what it had, unless somebody changed it since. */
async function edited(done) {
  let refused = 0;
  for (const {card, version, was} of done) {
    try {
      await call("PATCH", `/cards/${card}`, was, {"If-Match": `"${version}"`});
    } catch (refusal) {
      refused++;
      const shown = cardOf(card);
      if (shown) tellAt(shown, refusal.message);
    }
  }
  await refresh(done.map(one => one.card)).catch(() => {});
  if (refused) throw new Error(ngettext("{n} card was changed by others since and stays as it is.", "{n} cards were changed by others since and stay as they are.", refused));
}

export const archive = cards => all(cards, "archive", {},
  n => ngettext("{n} card archived", "{n} cards archived", n), done => change(done.map(one => one.card), "unarchive"));

export const setPriority = (cards, priority, words) => all(cards, "edit", {changes: {priority}},
  n => ngettext("{n} card has priority {words}", "{n} cards have priority {words}", n, {words}), edited);

function labelled(cards, name, text) {
  const labels = text.split(",").map(word => word.trim().replace(/^#/, "")).filter(Boolean);
  if (!labels.length) return;
  const words = labels.join(", ");
  return all(cards, "edit", {changes: {[name]: labels}}, n => name === "add_labels"
    ? ngettext("{n} card has the label {words}", "{n} cards have the label {words}", n, {words})
    : ngettext("{n} card lost the label {words}", "{n} cards lost the label {words}", n, {words}), edited);
}

/* ---- the bar ---------------------------------------------------------------------------- */

const menus = {};
let subjects = [];

function wire(name, choose) {
  const menu = document.getElementById(`bulk-${name}`);
  if (menu) menus[name] = popup(menu, choose);
}
wire("move", item => {
  const column = document.getElementById(`col-${item.dataset.moveTo}`);
  subjects.length === 1 ? move(subjects[0], column) : moveAll(subjects, column);
});
wire("priority", item => setPriority(subjects, Number(item.dataset.priority), $(":scope > span:not(.prio)", item).textContent));
wire("goal", item => all(subjects, "edit", {changes: {goal: item.dataset.goal || null}},
  n => item.dataset.goal
    ? ngettext("{n} card belongs to {words}", "{n} cards belong to {words}", n, {words: item.textContent.trim()})
    : ngettext("{n} card has no goal", "{n} cards have no goal", n), edited));
wire("more", item => {
  const opposite = {pause: "resume", resume: "pause"}[item.dataset.steer];
  all(subjects, item.dataset.steer, {}, n => `${item.textContent.trim()}: ${ngettext("{n} card", "{n} cards", n)}`,
    opposite && (done => change(done.map(one => one.card), opposite)));
});
wire("label", item => {
  const input = $("#bulk-label input");
  labelled(subjects, item.dataset.label, input.value);
  input.value = "";
});
$("#bulk-label input")?.addEventListener("keydown", event => {
  if (event.key === "Enter") { event.preventDefault(); $('#bulk-label [data-label="add_labels"]').click(); }
});

/* Opens a menu of the bar for the picked cards, or for one card that has focus. */
export function openFor(name, cards, anchor) {
  subjects = cards;
  if (cards.length) menus[name]?.open(anchor, $(".t", cards.at(-1)));
}

bar?.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.bulk === "clear") clear();
  else if (button.dataset.bulk === "archive") archive(selected());
  else if (button.dataset.bulk) openFor(button.dataset.bulk, selected(), button);
});
