/* Cards as the server has them: where each stands, counts, and what running ones do. */
import {announce} from "../api.js";
import {tell} from "../times.js";
import {$, $$, board, cardOf, cardsIn, columnOf, endOf, key, listOf, put, query} from "./dom.js";
import {equip} from "./drag.js";
import {rove} from "./keys.js";

const MOST_IDS = 100, PAGE = 30;

export function place(card, column) {
  // Running cards first, then by rank: the order the server lists them in.
  const at = [Number(card.dataset.group), Number(card.dataset.rank)];
  const later = other => {
    const theirs = [Number(other.dataset.group), Number(other.dataset.rank)];
    return theirs[0] > at[0] || (theirs[0] === at[0] && theirs[1] > at[1]);
  };
  const next = cardsIn(column).find(other => other !== card && later(other));
  const following = cardsIn(column)[cardsIn(column).indexOf(card) + 1];
  if (card.parentElement !== listOf(column) || following !== next) {
    put(card, listOf(column), next ?? endOf(column));
  }
  return next;
}

/* The line between the running and the waiting cards of a column. */
export function part(column) {
  const cards = cardsIn(column), line = $("[data-part]", column);
  const first = cards.find(card => card.dataset.group === "1");
  if (!first || first === cards[0]) { line?.remove(); return; }
  const here = line ?? Object.assign(document.createElement("li"), {className: "part", textContent: "Waiting"});
  here.dataset.part = "";
  if (here.nextElementSibling !== first) first.before(here);
}

function setCounts({counts, attention, done, total}) {
  for (const column of $$(".col")) {
    const count = counts[column.dataset.column] ?? 0, limit = Number(column.dataset.wip) || 0;
    for (const place of $$(`[data-count="${column.dataset.column}"]`)) place.textContent = count;
    const full = limit > 0 && count >= limit;
    $(".n", column).classList.toggle("at", full);
    $(".wip", column).classList.toggle("at", full);
    $("[data-at-limit]", column)?.toggleAttribute("hidden", !full);
    $(".wip rect", column)?.setAttribute("width", limit ? Math.min(100, 100 * count / limit) : 0);
    const row = $(".more-row", column), left = count - cardsIn(column).length;
    row.hidden = left <= 0;
    $("button", row).textContent = `${left} more`;
    if (left > 0 && cardsIn(column).length < PAGE) fill(column);
    part(column);
  }
  for (const chip of $$(".q[data-show]")) $("b", chip).textContent = attention[chip.dataset.show];
  $("[data-done]").textContent = done;
  $("[data-total]").textContent = total;
  $("#board-done .done").setAttribute("stroke-dasharray", `${total ? Math.floor(100 * done / total) : 0} 100`);
  call_for(attention.needs);
}

/* Reads on where a column shows less than a page of what it has: cards left it, or the counts
   ran ahead of the events. */
function fill(column) {
  clearTimeout(column.filling);
  column.filling = setTimeout(() => {
    const row = $(".more-row", column);
    if (row && !row.hidden && !column.matches(".rail")) $("button", row).click();
  }, 300);
}

/* Says at most every 5 s that more cards need a person. */
let needed = Number($('.q[data-show="needs"] b').textContent), calling = 0;
function call_for(count) {
  const more = count > needed;
  needed = count;
  if (more && !calling) {
    calling = setTimeout(() => {
      calling = 0;
      announce(`${needed} ${needed === 1 ? "card needs" : "cards need"} you.`);
    }, 5000);
  }
}

/* Makes a card what the server says it is, node by node: what somebody is doing in it stays. */
function patch(old, html) {
  const strips = $$(":scope > .strip", old), classes = ["flash", "ghost", "pending"].filter(name => old.classList.contains(name));
  htmx.swap({text: html, target: old, sourceElement: board, swap: "outerMorph"});
  old.classList.add(...classes);
  old.append(...strips);
}

function made(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content.firstElementChild;
}

export async function refresh(ids) {
  const all = [...ids];
  for (let n = 0; n < all.length; n += MOST_IDS) await renew(all.slice(n, n + MOST_IDS));
  await tapes();
}

async function renew(ids) {
  const answer = await fetch(`/boards/${key}/changes?ids=${ids.join(",")}${query()}`);
  if (!answer.ok) throw new Error(answer.status);
  const told = await answer.json();
  const focused = document.activeElement;
  for (const fresh of told.cards) {
    const column = document.getElementById(`col-${fresh.column}`);
    let card = cardOf(fresh.id);
    if (!column) { card?.remove(); continue; }
    if (card && Number(card.dataset.version) > fresh.version) continue;
    const before = card && columnOf(card);
    if (card) patch(card, fresh.html);
    else card = made(fresh.html);
    const next = place(card, column);
    // Below what is shown of a long column it belongs to the part not loaded.
    if (!next && $(".more-row:not([hidden])", column) && before !== column) card.remove();
    else if (before !== column) flash(card);
    equip(card);
    tell(card);
  }
  told.gone.forEach(id => cardOf(id)?.remove());
  setCounts(told);
  rove();
  if (focused?.isConnected && focused !== document.activeElement && focused.matches(".card *")) {
    focused.focus({preventScroll: true});
  }
  return told;
}

function flash(card) {
  card.classList.remove("flash");
  requestAnimationFrame(() => card.classList.add("flash"));
}

/* Everything afresh, in place: after more was missed than can be replayed. */
export async function reread() {
  const answer = await fetch(location.href);
  if (!answer.ok) throw new Error(answer.status);
  await htmx.swap({text: await answer.text(), target: "#view", select: "#view", sourceElement: board, swap: "outerMorph"});
}

/* What running cards are doing this moment: their current step and the last ones as a tape. */
let taping = false, tapeAgain = false;
export async function tapes() {
  if (taping) { tapeAgain = true; return; }
  if (!$('.card[data-state="running"]')) return;
  taping = true;
  try {
    const answer = await fetch(`/boards/${key}/tapes`);
    if (answer.ok) {
      for (const [id, {now, tape}] of Object.entries((await answer.json()).cards)) {
        const card = cardOf(id), line = card && $("[data-now]", card), row = card && $("[data-tape]", card);
        if (line) line.textContent = now;
        if (row) {
          row.replaceChildren(...[...tape].map(letter => {
            const tick = document.createElement("i");
            if (letter !== "r") tick.className = letter === "." ? "now" : letter;
            return tick;
          }));
        }
      }
    }
  } finally {
    taping = false;
    if (tapeAgain) { tapeAgain = false; retape(); }
  }
}
// Where nobody waits for it: while the server is away the next event, or the clock, asks again.
export const retape = () => tapes().catch(() => {});
