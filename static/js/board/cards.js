/* Cards as the server has them: where each stands, counts, and what running ones do. */
import {announce} from "../api.js";
import {tell} from "../times.js";
import {gettext, ngettext} from "../words.js";
import {$, $$, board, cardOf, cardsIn, columnOf, endOf, key, listOf, put, query} from "./dom.js";
import {equip} from "./drag.js";
import {asOf} from "./feed.js";
import {rove} from "./keys.js";
import {queued} from "./queue.js";
import {keepPicked} from "./select.js";
import {morph} from "./morph.js";

const MOST_IDS = 100, PAGE = 30;
const SLICE = 40, TAPES_PACE = 1_000, TAPES_REST = 8, SETTLING = 30_000, FLASH_MS = 700;

/* ---- where cards stand ------------------------------------------------------------------- */

/* A card's place among the others of its column: running ones first, then as the board is sorted. */
function placeOf({dataset}) {
  return dataset.sort ? JSON.parse(dataset.sort) : [Number(dataset.group), Number(dataset.rank)];
}

function isAfter(one, other) {
  const n = one.findIndex((part, at) => part !== other[at]);
  return n >= 0 && one[n] > other[n];
}

/* How far down a column is shown: its cards up to there are all in the page. Without an entry
   all of them are. */
const reaches = new WeakMap(), NOTHING = [-1];

/* Takes note of how far the columns are shown whose cards the server has just sent: their row at
   the end is new. In the others the row says what the counts say, which run ahead of the cards. */
export function measure() {
  for (const column of $$(".col", board)) {
    const row = $(".more-row", column), last = cardsIn(column).at(-1);
    if (!row || row.dataset.measured !== undefined) continue;
    row.dataset.measured = "";
    if (row.hidden) reaches.delete(column);
    else reaches.set(column, last ? placeOf(last) : NOTHING);
  }
}

/* The place below which there is more of a column to read; undefined where that is all of it. */
export function reachOf(column) {
  const reach = reaches.get(column) ?? (cardsIn(column).length ? placeOf(cardsIn(column).at(-1)) : NOTHING);
  return reach === NOTHING ? undefined : reach;
}

const isBeyond = (at, column) => reaches.has(column) && isAfter(at, reaches.get(column));

/* True if an event may change what the page shows, besides its counts. */
export function concerns({subject, data}) {
  const {query, lanes, sort} = board.dataset;
  if (cardOf(subject) || data.rank === undefined || query || lanes || (sort && sort !== "manual")) return true;
  const column = document.getElementById(`col-${data.column}`);
  return !!column && !isBeyond([data.state === "running" ? 0 : 1, data.rank], column);
}

export function place(card, column) {
  const at = placeOf(card), cards = cardsIn(column);
  const next = cards.find(other => other !== card && isAfter(placeOf(other), at));
  const following = cards[cards.indexOf(card) + 1];
  if (card.parentElement !== listOf(column) || following !== next) {
    put(card, listOf(column), next ?? endOf(column));
  }
}

/* Lets the end of a column go that others' changes have made long, unless somebody is there. */
function trim(column, left) {
  const cards = cardsIn(column), most = PAGE * (1 + Number(column.dataset.pages ?? 0));
  if (cards.length < most + PAGE) return left;
  const list = listOf(column), seen = list.scrollTop + 2 * list.clientHeight;
  let keep = cards.length;
  while (keep > most && cards[keep - 1].offsetTop - list.offsetTop > seen && isFree(cards[keep - 1])) keep--;
  if (keep === cards.length) return left;
  cards.slice(keep).forEach(card => card.remove());
  reaches.set(column, placeOf(cards[keep - 1]));
  return left + cards.length - keep;
}

const isFree = card => !card.matches(".sel, .ghost, .pending") && !card.contains(document.activeElement) && !$("details[open]", card);

/* The line between the running and the waiting cards of a column. */
export function part(column) {
  const cards = cardsIn(column), line = $("[data-part]", column);
  const first = cards.find(card => card.dataset.group === "1");
  if (!first || first === cards[0]) { line?.remove(); return; }
  const here = line ?? Object.assign(document.createElement("li"), {className: "part", textContent: gettext("Waiting")});
  here.dataset.part = "";
  if (here.nextElementSibling !== first) first.before(here);
}

/* Most of what is counted stays as it is: what isn't written needs no new layout. */
const write = (node, text) => { if (node.textContent !== String(text)) node.textContent = text; };
const set = (node, name, value) => { if (node && node.getAttribute(name) !== String(value)) node.setAttribute(name, value); };

function setCounts({counts, lane_counts: lanes, attention, done, total}) {
  // With lanes the heads of the columns stand in a row of their own.
  for (const head of $$(".col:not([data-lane]), .col-head", board)) {
    const {column, wip} = head.dataset, count = counts[column] ?? 0, limit = Number(wip) || 0;
    for (const place of $$(`[data-count="${column}"]`)) write(place, count);
    const levels = {near: count === limit - 1, at: count >= limit, "over-limit": count > limit};
    for (const [name, on] of Object.entries(levels)) {
      for (const part of [$(".n", head), $(".wip", head)]) part?.classList.toggle(name, limit > 0 && on);
    }
    $("[data-at-limit]", head)?.toggleAttribute("hidden", !(limit > 0 && count >= limit));
    set($(".wip rect", head), "width", limit ? Math.min(100, 100 * count / limit) : 0);
  }
  for (const [lane, columns] of Object.entries(lanes ?? {})) {
    const place = $(`[data-lane-count="${CSS.escape(lane)}"]`, board);
    if (place) write(place, Object.values(columns).reduce((sum, n) => sum + n, 0));
  }
  for (const column of $$(".col", board)) {
    const {column: id, lane} = column.dataset, count = (lane ? lanes?.[lane]?.[id] : counts[id]) ?? 0;
    const row = $(".more-row", column), left = trim(column, count - cardsIn(column).length);
    row.hidden = left <= 0;
    write($("button", row), gettext("{n} more", {n: left}));
    if (left > 0 && cardsIn(column).length < PAGE) fill(column);
    part(column);
  }
  for (const chip of $$(".q[data-show]")) write($("b", chip), attention[chip.dataset.show]);
  write($("[data-done]"), done);
  write($("[data-total]"), total);
  set($("#board-done .done"), "stroke-dasharray", `${total ? Math.floor(100 * done / total) : 0} 100`);
  call_for(attention.needs);
}

/* Reads on where a column shows less than a page of what it has: cards left it, or the counts
   ran ahead of the events. While everything moves only a column that runs empty is. */
function fill(column) {
  clearTimeout(column.filling);
  column.filling = setTimeout(() => {
    const row = $(".more-row", column);
    if (row && !row.hidden && !column.matches(".rail")) $("button", row).click();
  }, cardsIn(column).length < PAGE / 3 ? 300 : 1000);
}

/* Says at most every 5 s that more cards need a person. */
let needed = Number($('.q[data-show="needs"] b').textContent), calling = 0;
function call_for(count) {
  const more = count > needed;
  needed = count;
  if (more && !calling) {
    calling = setTimeout(() => {
      calling = 0;
      announce(ngettext("{n} card needs you.", "{n} cards need you.", needed));
    }, 5000);
  }
}

const STATES = ["flash", "ghost", "pending", "sel", "edge-top", "edge-bottom"];
const told = new WeakMap();

/* Makes a card what the server says it is, node by node: what somebody is doing in it stays. */
function patch(old, html) {
  if (told.get(old) === html) return;
  told.set(old, html);
  const strips = $$(":scope > .strip", old), classes = STATES.filter(name => old.classList.contains(name));
  morph(old, made(html));
  old.classList.add(...classes);
  old.append(...strips);
}

function made(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content.firstElementChild;
}

/* The version of each card that was read last, and whether that is what an event tells of: counts
   were read with it. */
const versions = new Map();
export const isRead = ({subject, data}) => versions.get(subject) >= data.version;

/* When a card was heard of last: what was read from the server before that may be outdated. */
const heard = new Map();

/* Has the named cards, and all counts, be as the server has them at event ``at`` or later. */
export async function refresh(ids, at) {
  const all = [...ids], now = performance.now();
  all.forEach(id => heard.set(id, now));
  for (const [id, when] of heard) if (now - when > SETTLING) heard.delete(id);
  let n = 0;
  do await renew(all.slice(n, n += MOST_IDS), at); while (n < all.length);
  retape();
  document.dispatchEvent(new CustomEvent("holdfast:changed", {detail: {ids: all}}));
}

/* Has those be read again that changed while more of a column was on its way. */
export function reheard() {
  const ids = [...heard.keys()];
  if (ids.length) refresh(ids).catch(() => {});
}

async function renew(ids, at) {
  const since = at ? `&at=${at}` : "";
  const answer = await fetch(`/boards/${key}/changes?ids=${ids.join(",")}${since}${query()}`);
  if (!answer.ok) throw new Error(answer.status);
  const told = await answer.json();
  const focused = document.activeElement, stood = focused?.matches(".card :is(.t, .kb)") ? standing(focused) : null;
  let began = performance.now();
  for (const fresh of told.cards) {
    // In slices: a key that is pressed meanwhile is not kept waiting.
    if (performance.now() - began > SLICE) {
      await new Promise(turn => setTimeout(turn));
      began = performance.now();
    }
    renewCard(fresh);
  }
  told.gone.forEach(id => cardOf(id)?.remove());
  setCounts(told);
  keepPicked();
  rove();
  if (focused?.isConnected && focused !== document.activeElement && focused.matches(".card *")) {
    focused.focus({preventScroll: true});
  }
  if (stood && !focused.isConnected && document.activeElement === document.body) nearest(stood).focus();
  return told;
}

/* Who uses keys goes on at the next card, where the one that had the focus is gone. */
const standing = node => ({column: columnOf(node), at: cardsIn(columnOf(node)).indexOf(node.closest(".card"))});
function nearest({column, at}) {
  const cards = cardsIn(column);
  return cards.length ? $(".t", cards[Math.min(at, cards.length - 1)]) : listOf(column);
}

function renewCard(fresh) {
  // What a person did to it is yet to be told to the server: it stays as they put it.
  if (queued(fresh.id)) return;
  const column = document.getElementById(fresh.lane ? `col-${fresh.column}--${fresh.lane}` : `col-${fresh.column}`);
  let card = cardOf(fresh.id);
  if (!column) { card?.remove(); return; }
  // Answers overtake each other: an old one must not bring back what a newer one took away.
  if (Math.max(versions.get(fresh.id) ?? 0, Number(card?.dataset.version ?? 0)) > fresh.version) return;
  versions.set(fresh.id, fresh.version);
  // A column that is folded up is read when it is opened.
  if (column.dataset.unread !== undefined) { card?.remove(); return; }
  const before = card && columnOf(card);
  if (card) patch(card, fresh.html);
  else card = made(fresh.html);
  // Below what is shown of a long column it belongs to the part not loaded.
  if (isBeyond(placeOf(card), column)) { card.remove(); return; }
  place(card, column);
  if (before !== column) flash(card);
  equip(card);
  tell(card);
}

/* Shows for a moment where a card came to. It does not fade: that draws the board anew in every
   frame, which cost more than all else together while much happens. */
function flash(card) {
  card.classList.add("flash");
  setTimeout(() => card.classList.remove("flash"), FLASH_MS);
}

/* Everything afresh, in place: after more was missed than can be replayed. */
export const reread = () => afresh("#view");

/* Who is over a budget: the strip above the columns, and the signs beside the goals. */
export const rebudget = () => afresh("#board-spent", "#side-goals");

async function afresh(...parts) {
  const answer = await fetch(location.href);
  if (!answer.ok) throw new Error(answer.status);
  const text = await answer.text();
  for (const part of parts) {
    if ($(part, document)) await htmx.swap({text, target: part, select: part, sourceElement: board, swap: "outerMorph"});
  }
}

/* What running cards are doing this moment: their current step and the last ones as a tape. At
   most once in a while, which is longer where the answer takes its time. */
let taping = false, tapeAgain = false;
export async function tapes() {
  if (taping) { tapeAgain = true; return; }
  if (!$('.card[data-state="running"]', board)) return;
  taping = true;
  const began = performance.now();
  try {
    const answer = await fetch(`/boards/${key}/tapes?${asOf()}`);
    if (answer.ok) {
      for (const [id, told] of Object.entries((await answer.json()).cards)) {
        const card = cardOf(id);
        if (card) retell(card, told);
      }
    }
  } finally {
    setTimeout(() => {
      taping = false;
      if (tapeAgain) { tapeAgain = false; retape(); }
    }, Math.max(TAPES_PACE, TAPES_REST * (performance.now() - began)));
  }
}

function retell(card, {now, tape}) {
  const line = $("[data-now]", card), row = $("[data-tape]", card);
  if (line && line.textContent !== now) line.textContent = now;
  if (!row || row.dataset.tape === tape) return;
  row.dataset.tape = tape;
  row.replaceChildren(...[...tape].map(letter => {
    const tick = document.createElement("i");
    if (letter !== "r") tick.className = letter === "." ? "now" : letter;
    return tick;
  }));
}
// Where nobody waits for it: while the server is away the next event, or the clock, asks again.
export const retape = () => tapes().catch(() => {});
measure();
