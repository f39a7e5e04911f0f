/* Moving cards: shown at once, put back with the reason if the server refuses, undone with Z. */
import {announce, call, toast} from "../api.js";
import {fieldName} from "../edit.js";
import {spelled} from "../times.js";
import {after as settled, pushUndo, restored, standing} from "../undo.js";
import {gettext, ngettext} from "../words.js";
import {part, refresh} from "./cards.js";
import {$, $$, beside, board, cardOf, cardsIn, cell, columnOf, endOf, key, listOf, make, put, query, sorted} from "./dom.js";
import {ask} from "./asking.js";
import {feed} from "./feed.js";
import {queue, queued, send} from "./queue.js";

const LONG = 60;

/* Where a card stands, so that it can be brought back: its column and its neighbours. */
export function placeOf(card, without = new Set([card])) {
  const column = columnOf(card), cards = cardsIn(column), at = cards.indexOf(card);
  const next = cards.slice(at + 1).find(other => !without.has(other));
  const last = cards.slice(0, at).findLast(other => !without.has(other));
  return {column: column.dataset.column, lane: column.dataset.lane, next: next?.dataset.card, last: last?.dataset.card};
}

const sameLane = (card, column) => !column.dataset.lane || columnOf(card).dataset.lane === column.dataset.lane;

/* What changes about a card that goes to a lane; a sentence where it can't. */
function filed(lane) {
  switch (board.dataset.lanes) {
    case "goal": return {goal: lane === "none" ? null : lane};
    case "priority": return {priority: lane === "none" ? 4 : Number(lane)};
    default: return gettext("A card goes to a worker when the worker claims it; drop it within its lane.");
  }
}

/* Brings cards to a place. Asks first where a running card would be taken from its worker. */
export async function moveAll(cards, column, {before, after} = {}) {
  const across = cards.some(card => !sameLane(card, column));
  const filing = across ? filed(column.dataset.lane) : {};
  if (typeof filing === "string") { refuse(cards, filing); return; }
  if (sorted() && !across && cards.every(card => columnOf(card) === column)) {
    const text = gettext("The order follows the sorting; sort by hand to arrange cards.");
    announce(text, true);
    toast(text);
    return;
  }
  if (sorted()) before = after = undefined;
  const running = cards.filter(card => card.dataset.state === "running");
  if (running.length && column.dataset.kind !== "in_progress") {
    const wanted = await ask({
      title: ngettext("{key} is running", "{n} cards are running", running.length, {key: running[0].dataset.key}),
      text: gettext("Moved to {name}, the work is taken from its worker; what it has recorded stays.", {name: column.dataset.name}),
      choices: [
        {value: "", label: gettext("Keep running")},
        {value: "pause", label: gettext("Pause")},
        {value: "release", label: gettext("Take it and move"), primary: true},
      ],
    });
    const kept = running[0].isConnected && $(".t", running[0]);
    if (!wanted) { announce(gettext("Not moved.")); kept?.focus({preventScroll: true}); return; }
    if (wanted === "pause") { await pause(running); kept?.focus({preventScroll: true}); return; }
  }
  return settled(cards.length === 1 && !across ? moveOne(cards[0], column, {before, after}) : moveMany(cards, column, {before, after}, filing));
}

export const move = (card, column, how) => moveAll([card], column, how);

async function pause(cards) {
  for (const card of cards) {
    try {
      await call("POST", `/cards/${card.dataset.card}/pause`, {});
      announce(gettext("{key} is told to pause.", {key: card.dataset.key}));
    } catch (refusal) {
      refuse([card], refusal.message);
    }
  }
  await refresh(cards.map(card => card.dataset.card)).catch(() => {});
}

/* Says at the cards why something was not done to them. */
export function refuse(cards, text) {
  announce(text, true);
  for (const card of cards) tellAt(card, text);
}

/* The change to one card that is not answered yet; the next one waits for it. */
const underway = new Map();

export function moveOne(card, column, how = {}) {
  const id = card.dataset.card, work = (underway.get(id) ?? Promise.resolve()).then(() => moved(card, column, how));
  underway.set(id, work);
  work.finally(() => { if (underway.get(id) === work) underway.delete(id); });
  return settled(work);
}

async function moved(card, column, {before, after, version = card.dataset.version} = {}) {
  const from = placeOf(card), source = columnOf(card), id = card.dataset.card, was = Number(card.dataset.version);
  const name = column.dataset.name, words = {key: card.dataset.key, name};
  const focus = card.contains(document.activeElement);
  const to = {column: column.dataset.column, lane: column.dataset.lane, next: before?.dataset.card, last: after?.dataset.card};
  show(card, column, before ?? (after ? after.nextElementSibling : endOf(column)));
  part(source);
  if (focus) $(".t", card).focus({preventScroll: true});
  card.classList.add("pending");
  feed.hold();
  const label = gettext("{key} moved to {name}", words);
  try {
    const told = await post(id, to, version, label);
    $$(":scope > .strip", card).forEach(strip => strip.remove());
    if (told.queued) {
      announce(gettext("{key} will be moved to {name} when the server is back.", words));
    } else {
      card.dataset.version = told.version;
      const where = cardsIn(column).indexOf(card) + 1;
      announce(source === column
        ? gettext("{key} moved to {name}, place {where}.", {...words, where})
        : gettext("{key} moved from {from} to {name}, place {where}.", {...words, where, from: source.dataset.name}));
      told.warnings?.forEach(warning => toast(warning));
    }
    record(label, id, from, to, was, told);
  } catch (refusal) {
    const next = from.next && cardOf(from.next);
    put(card, listOf(source), next && columnOf(next) === source ? next : endOf(source));
    part(source);
    if (focus) $(".t", card).focus({preventScroll: true});
    await explain(card, column, refusal, {before, after});
  } finally {
    if (!queued(id)) card.classList.remove("pending");
    // Before the event of it is handed over, which then has nothing to ask for.
    if (!queued(id)) await refresh([id]).catch(() => { /* its event brings it */ });
    feed.release();
  }
}

/* Draws a card at its new place, over a column that is folded up too. */
function show(card, column, before) {
  put(card, listOf(column), before ?? null);
  part(column);
}

/* ``filing`` is what a lane has in common: the card gets it with the same request. */
function post(id, {column, lane, next, last}, version, what, filing = {}) {
  const body = {column, ...filing};
  if (next) body.before = next;
  else if (last) body.after = last;
  const place = {column, lane, next, last}, versions = {[id]: Number(version) || null};
  return send({path: `/cards/${id}/move`, body, versions, what, place});
}

function record(label, id, from, to, was, told) {
  let back = was, latest = told;
  pushUndo({
    label,
    async undo() {
      const version = versionOf(latest), answer = await relocate(id, from, standing(id, version), label);
      restored(id, back, versionOf(answer));
      back = version;
      latest = answer;
    },
    async redo() {
      const version = versionOf(latest), answer = await relocate(id, to, standing(id, version), label);
      restored(id, back, versionOf(answer));
      back = version;
      latest = answer;
    },
  });
}

/* Brings a card, shown or not, to a place where it was. Throws Refused. */
async function relocate(id, place, version, what) {
  const card = cardOf(id), column = cell(place.column, place.lane), there = place => place && cardOf(place);
  const inColumn = other => other && column && columnOf(other) === column ? other : null;
  const next = inColumn(there(place.next)), last = next ? null : inColumn(there(place.last));
  const told = await post(id, {column: place.column, next: next?.dataset.card, last: last?.dataset.card}, version, what)
    .catch(async refusal => { throw Object.assign(refusal, {message: await inWords(id, refusal)}); });
  if (card && column) {
    const focus = card.contains(document.activeElement), source = columnOf(card);
    show(card, column, next ?? (last ? last.nextElementSibling : endOf(column)));
    part(source);
    if (focus) $(".t", card).focus({preventScroll: true});
    if (told.version) card.dataset.version = told.version;
    card.classList.toggle("pending", !!told.queued);
  }
  if (!told.queued) await refresh([id]).catch(() => {});
  return told;
}

/* ---- many cards ------------------------------------------------------------------------- */

async function moveMany(cards, column, {before, after: behind}, filing) {
  const together = new Set(cards), name = column.dataset.name;
  const ids = cards.map(card => card.dataset.card), from = new Map(cards.map(card => [card.dataset.card, placeOf(card, together)]));
  const shown = cardsIn(column).filter(card => !together.has(card));
  const next = before && together.has(before) ? shown.find(card => before.compareDocumentPosition(card) & Node.DOCUMENT_POSITION_FOLLOWING) : before;
  const last = behind && together.has(behind) ? shown.findLast(card => behind.compareDocumentPosition(card) & Node.DOCUMENT_POSITION_PRECEDING) : behind;
  const anchor = next ?? (last ? last.nextElementSibling : endOf(column));
  const focus = cards.find(card => card.contains(document.activeElement)), sources = new Set(cards.map(columnOf));
  const to = {column: column.dataset.column, lane: column.dataset.lane, next: next?.dataset.card, last: last?.dataset.card};
  const label = cards.length === 1 ? gettext("{key} moved to {name}", {key: cards[0].dataset.key, name})
    : ngettext("{n} card moved to {name}", "{n} cards moved to {name}", cards.length, {name});
  feed.hold();
  const versions = new Map(), was = new Map();
  for (const card of cards) {
    was.set(card.dataset.card, Number(card.dataset.version));
    show(card, column, anchor);
    card.classList.add("pending");
  }
  sources.forEach(part);
  if (focus) $(".t", focus).focus({preventScroll: true});
  try {
    const refused = await carry(ids.map(id => ({id, to, filing, version: was.get(id)})), label, versions);
    const n = ids.length - refused.length;
    if (n) {
      const text = refused.length ? ngettext("{n} card moved to {name}", "{n} cards moved to {name}", n, {name}) : label;
      announce(`${text}.`);
      const files = Object.keys(filing).length > 0;
      const back = ids.filter(id => versions.has(id)).map(id => ({id, to: from.get(id), filing: files ? filed(from.get(id).lane) : {}}));
      recordMany(text, back, {to, filing}, versions, was);
    }
    await tellRefused(refused, column);
  } finally {
    cards.filter(card => !queued(card.dataset.card)).forEach(card => card.classList.remove("pending"));
    await refresh(ids.filter(id => !queued(id))).catch(() => {});
    feed.release();
  }
}

/* Brings each card to its place, in order; fills in the versions, gives those that were refused. */
async function carry(moves, label, versions) {
  const refused = [], warnings = new Set();
  let previous;
  for (const {id, to, filing, version} of moves) {
    try {
      // What was put there first stays above what comes after it.
      const behind = previous && !to.next && to.last && previous.to.last === to.last && previous.to.column === to.column;
      const place = behind ? {...to, last: previous.id} : to;
      const told = await post(id, place, version, label, filing);
      versions.set(id, told);
      told.warnings?.forEach(warning => warnings.add(warning));
      previous = {id, to};
    } catch (refusal) {
      refused.push({id, refusal});
    }
  }
  if (warnings.size) toast([...warnings].at(-1));
  return refused;
}

function recordMany(label, back, again, versions, was) {
  const bring = async places => {
    const moves = places.map(place => ({...place, version: standing(place.id, versionOf(versions.get(place.id)))}));
    const answers = new Map(), refused = await carry(moves, label, answers);
    for (const [id, told] of answers) {
      const before = versionOf(versions.get(id));
      restored(id, was.get(id), versionOf(told));
      was.set(id, before);
      versions.set(id, told);
    }
    await refresh(places.map(({id}) => id)).catch(() => {});
    await tellRefused(refused);
    if (refused.length) {
      throw new Error(ngettext("{n} card was changed by others since and stays as it is.", "{n} cards were changed by others since and stay as they are.", refused.length));
    }
  };
  pushUndo({label, undo: () => bring(back), redo: () => bring(back.map(({id}) => ({id, ...again})))});
}

async function tellRefused(refused, column) {
  for (const {id, refusal} of refused) {
    const card = cardOf(id);
    if (card) await explain(card, column ?? columnOf(card), refusal, {}, !!column);
    else toast(refusal.message);
  }
}

const versionOf = told => told?.queued ? told.queued.answer?.version : told?.version;

/* ---- refusals --------------------------------------------------------------------------- */

/* Why the server refused: who was faster, where somebody was. */
async function inWords(id, refusal) {
  if (refusal.status !== 412) return refusal.message;
  const answer = await fetch(`/boards/${key}/changes?said=1&ids=${id}${query()}`).catch(() => null);
  const said = answer?.ok && (await answer.json()).said;
  if (!said) return refusal.message;
  return gettext("{actor} {did}, {span} ago.", {...said, span: spelled((Date.now() - Date.parse(said.at)) / 1000)});
}

/* A sentence at the card, for a while, with what can be done about it. */
export function tellAt(card, words, act) {
  $$(":scope > .strip", card).forEach(strip => strip.remove());
  const strip = make("div", {className: "strip need z"}, make("span", {textContent: words}));
  if (act) {
    const button = make("button", {className: "btn sm", type: "button", textContent: act.label});
    button.addEventListener("click", () => { strip.remove(); act.action(); });
    strip.append(button);
  }
  card.append(strip);
  setTimeout(() => strip.remove(), 20_000);
}

/* Says at the card why it is back where it was; what is stale can be done all the same. */
export async function explain(card, column, refusal, beside, again = true) {
  const stale = refusal.status === 412, words = await inWords(card.dataset.card, refusal);
  announce(gettext("{key} was not moved: {why}", {key: card.dataset.key, why: words}), true);
  tellAt(card, words, stale && again && {label: gettext("Move anyway"), action: () => moveOne(card, column, {...beside, version: ""})});
}

export function step(card, arrow) {
  const column = columnOf(card), columns = beside(column), n = columns.indexOf(column);
  if (card.classList.contains("pending") && !queued(card.dataset.card)) return;
  if (arrow === "ArrowLeft" || arrow === "ArrowRight") {
    const target = columns[n + (arrow === "ArrowRight" ? 1 : -1)];
    if (target) moveAll([card], target, {before: cardsIn(target)[0]});
    return;
  }
  const cards = cardsIn(column), at = cards.indexOf(card);
  if (arrow === "ArrowUp" && at > 0) moveAll([card], column, {before: cards[at - 1]});
  if (arrow === "ArrowDown" && at < cards.length - 1) moveAll([card], column, {after: cards[at + 1]});
}

/* What was kept for the server has its answer. */
queue.tell({
  async sent(change, answer) {
    const ids = settle(change);
    await refresh(ids).catch(() => {});
    for (const {card, ok, detail} of answer.results ?? []) if (!ok && cardOf(card)) tellAt(cardOf(card), detail);
    if (!change.place) changed(ids);
  },
  async refused(change, refusal, ids) {
    settle(change);
    await refresh(ids).catch(() => {});
    if (change.method === "PATCH") { tellBoth(change, refusal, ids[0]); changed(ids); return; }
    for (const id of ids) if (cardOf(id)) await explain(cardOf(id), cell(change.place?.column, change.place?.lane) ?? columnOf(cardOf(id)), refusal, {}, !!change.place);
    if (!ids.some(cardOf)) toast(gettext("Not done: {what}. {why}", {what: change.what, why: refusal.message}));
  },
});

/* Gives the cards of a change for which nothing waits any longer. */
function settle(change) {
  const ids = Object.keys(change.versions).filter(id => !queued(id));
  ids.forEach(id => cardOf(id)?.classList.remove("pending"));
  return ids;
}

const changed = ids => document.dispatchEvent(new CustomEvent("holdfast:changed", {detail: {ids}}));

/* An edit that no longer fits what somebody else made meanwhile: theirs, and what was to be. */
function tellBoth(change, refusal, id) {
  const [[field, mine]] = Object.entries(change.body), card = cardOf(id), spell = value => typeof value === "string" ? value : JSON.stringify(value);
  const key = card?.dataset.key ?? refusal.current?.key ?? "";
  if (!refusal.current) { toast(gettext("Not done: {what}. {why}", {what: change.what, why: refusal.message}), {seconds: LONG}); return; }
  const words = gettext("{key}: somebody changed it meanwhile. The {field} is “{theirs}”, yours was “{mine}”.", {key, field: fieldName(field), theirs: spell(refusal.current[field]), mine: spell(mine)});
  announce(words, true);
  const again = () => sendEdit({card: id, fields: change.body, version: refusal.current.version, what: change.what})
    .then(told => { if (!told.queued) { changed([id]); return refresh([id]); } })
    .catch(error => toast(error.message));
  toast(words, {label: gettext("Save mine"), action: again, seconds: LONG});
}

/* Changes fields of a card, now or when the server is back; the board shows it at once. */
export async function sendEdit({card: id, fields, version, what}) {
  const told = await send({method: "PATCH", path: `/cards/${id}`, body: fields, versions: {[id]: Number(version)}, what});
  if (told.queued) showEdit(id, fields);
  return told;
}

function showEdit(id, {title}) {
  const card = cardOf(id);
  card?.classList.add("pending");
  if (card && title) $(".t", card).textContent = title;
}

/* Cards whose moves still wait, as they will stand: after a reload. */
export function showQueued() {
  for (const {versions, place, method, body} of queue.changes) {
    for (const card of Object.keys(versions).map(cardOf).filter(Boolean)) {
      if (method === "PATCH") showEdit(card.dataset.card, body);
      const column = place && cell(place.column, place.lane ?? columnOf(card).dataset.lane);
      const next = place?.next && cardOf(place.next);
      if (column) show(card, column, next && columnOf(next) === column ? next : endOf(column));
      card.classList.add("pending");
    }
  }
}
