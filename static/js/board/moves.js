/* Moving a card: shown at once, put back with the reason if the server refuses, undone with Z. */
import {announce, call, toast} from "../api.js";
import {spelled} from "../times.js";
import {part, refresh} from "./cards.js";
import {$, $$, cardOf, cardsIn, columnOf, endOf, key, listOf, put, query} from "./dom.js";
import {feed} from "./feed.js";

let undoable = null, moving = Promise.resolve();

export function move(...how) {
  return moving = moved(...how);
}

async function moved(card, column, {before, after, version = card.dataset.version, quiet = false} = {}) {
  const from = {column: columnOf(card), next: cardsIn(columnOf(card))[cardsIn(columnOf(card)).indexOf(card) + 1]};
  const name = column.dataset.name, body = {column: column.dataset.column};
  if (before) body.before = before.dataset.card;
  else if (after) body.after = after.dataset.card;
  const focus = card.contains(document.activeElement);
  // Shown at once; put back if the server refuses.
  put(card, listOf(column), before ?? (after ? after.nextElementSibling : endOf(column)));
  part(column);
  if (focus) $(".t", card).focus({preventScroll: true});
  card.classList.add("pending");
  feed.hold();
  try {
    const headers = version ? {"If-Match": `"${version}"`} : {};
    const told = await call("POST", `/cards/${card.dataset.card}/move`, body, headers);
    card.dataset.version = told.version;
    const where = cardsIn(column).indexOf(card) + 1, left = from.column === column ? "" : ` from ${from.column.dataset.name}`;
    announce(`${card.dataset.key} moved${left} to ${name}, place ${where}.`);
    $$(".strip", card).forEach(strip => strip.remove());
    if (!quiet) {
      undoable?.close();
      const close = toast(`${card.dataset.key} moved to ${name}`, {label: "Undo", key: "Z", action: undo});
      undoable = {close, card: card.dataset.card, column: from.column, next: from.next};
    }
    told.warnings?.forEach(warning => toast(warning));
  } catch (refusal) {
    put(card, listOf(from.column), from.next?.isConnected && columnOf(from.next) === from.column ? from.next : endOf(from.column));
    if (focus) $(".t", card).focus({preventScroll: true});
    await explain(card, column, refusal, {before, after});
  } finally {
    card.classList.remove("pending");
    feed.release();
    try { await refresh([card.dataset.card]); } catch { /* the next event brings it */ }
  }
}

/* Says at the card why it is back where it was; what is stale can be done all the same. */
export async function explain(card, column, refusal, beside) {
  let words = refusal.message;
  if (refusal.status === 412) {
    const said = await latest(card);
    if (said) words = `${said.actor} ${said.did.replace(/\bit\b/, "this")}, ${spelled((Date.now() - Date.parse(said.at)) / 1000)} ago.`;
  }
  announce(`${card.dataset.key} was not moved: ${words}`, true);
  $$(":scope > .strip", card).forEach(strip => strip.remove());
  const strip = document.createElement("div");
  strip.className = "strip need z";
  const text = document.createElement("span");
  text.textContent = words;
  strip.append(text);
  if (refusal.status === 412) {
    const anyway = document.createElement("button");
    Object.assign(anyway, {className: "btn sm", type: "button", textContent: "Move anyway"});
    anyway.addEventListener("click", () => { strip.remove(); move(card, column, {...beside, version: ""}); });
    strip.append(anyway);
  }
  card.append(strip);
  setTimeout(() => strip.remove(), 20_000);
}

async function latest(card) {
  const answer = await fetch(`/boards/${key}/changes?said=1&ids=${card.dataset.card}${query()}`).catch(() => null);
  return answer?.ok ? (await answer.json()).said : undefined;
}

export async function undo() {
  await moving;  // what was just done may not have its answer yet
  if (!undoable) return;
  const {card: id, column, next, close} = undoable, card = cardOf(id);
  undoable = null;
  close();
  if (card && column?.isConnected) {
    const before = next?.isConnected && columnOf(next) === column ? next : undefined;
    move(card, column, {before, version: "", quiet: true});
  }
}

export function step(card, arrow) {
  const column = columnOf(card), columns = $$(".col"), n = columns.indexOf(column);
  if (card.classList.contains("pending")) return;
  if (arrow === "ArrowLeft" || arrow === "ArrowRight") {
    const target = columns[n + (arrow === "ArrowRight" ? 1 : -1)];
    if (target) move(card, target, {before: cardsIn(target)[0]});
    return;
  }
  const cards = cardsIn(column), at = cards.indexOf(card);
  if (arrow === "ArrowUp" && at > 0) move(card, column, {before: cards[at - 1]});
  if (arrow === "ArrowDown" && at < cards.length - 1) move(card, column, {after: cards[at + 1]});
}
