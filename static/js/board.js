/* The board: drag and drop, keyboard, menu, quick add, and everybody else's changes, live. */
import {announce, call, toast} from "./api.js";
import {fingers} from "./finger.js";
import {connect} from "./live.js";
import {spelled, tell} from "./times.js";
import {
  attachClosestEdge, autoScrollForElements, combine, draggable, dropTargetForElements,
  extractClosestEdge, monitorForElements,
} from "../vendor/pragmatic-dnd.js";

const board = document.getElementById("board");
const key = board.dataset.board;
const mayWrite = !!board.dataset.mayWrite;
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const cardOf = id => document.getElementById(`card-${id}`);
const columnOf = node => node.closest(".col");
const cardsIn = column => $$("ol > .card", column);
const listOf = column => $("ol", column);
const tabs = new Map($$(".coltabs a").map(tab => [tab.getAttribute("href").slice(1), tab]));
const endOf = column => $(".empty-col", column);
const query = () => board.dataset.query ? `&${board.dataset.query}` : "";
const MOST_IDS = 100, PAGE = 30;

/* Moves a node without losing focus, selection or a running animation, where browsers can. */
function put(node, list, before) {
  if (node.isConnected && list.isConnected && list.moveBefore) list.moveBefore(node, before);
  else list.insertBefore(node, before);
}

/* ---- placing cards ---------------------------------------------------------------------- */

function place(card, column) {
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
function part(column) {
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

async function refresh(ids) {
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
async function reread() {
  const answer = await fetch(location.href);
  if (!answer.ok) throw new Error(answer.status);
  await htmx.swap({text: await answer.text(), target: "#view", select: "#view", sourceElement: board, swap: "outerMorph"});
}

/* What running cards are doing this moment: their current step and the last ones as a tape. */
let taping = false, tapeAgain = false;
async function tapes() {
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
const retape = () => tapes().catch(() => {});

/* ---- moving ----------------------------------------------------------------------------- */

let undoable = null, moving = Promise.resolve();

function move(...how) {
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
  live.hold();
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
    live.release();
    try { await refresh([card.dataset.card]); } catch { /* the next event brings it */ }
  }
}

/* Says at the card why it is back where it was; what is stale can be done all the same. */
async function explain(card, column, refusal, beside) {
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

async function undo() {
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

function step(card, arrow) {
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

/* ---- drag and drop ---------------------------------------------------------------------- */

const equipped = new WeakSet();

function equip(card) {
  if (!mayWrite || equipped.has(card)) return;
  equipped.add(card);
  combine(
    draggable({
      element: card,
      canDrag: ({input}) => !document.elementFromPoint(input.clientX, input.clientY)?.closest("textarea, input, button, form"),
      getInitialData: () => ({card: card.dataset.card}),
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

/* What a drag does, whoever carries it: {column, card, edge} says where, null nowhere. */
const drags = {
  lift(card) {
    card.classList.add("ghost");
    live.hold();
  },
  over(place) {
    clearEdges();
    place?.card?.classList.add(`edge-${place.edge}`);
    place?.column.classList.add("over");
    if (place) tabs.get(place.column.id)?.classList.add("over");
  },
  drop(card, {column, card: other, edge}) {
    move(card, column, other ? (edge === "top" ? {before: other} : {after: other}) : {});
  },
  end(card) {
    clearEdges();
    card.classList.remove("ghost");
    live.release();
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

/* ---- menu, dialogs, forms --------------------------------------------------------------- */

const menu = document.getElementById("move-menu"), dialog = document.getElementById("new-card");
let subject = null;

function openMenu(card, anchor) {
  subject = card;
  $("[data-menu-title]", menu).textContent = card.dataset.key;
  for (const item of $$("[data-move-to]", menu)) {
    const here = item.dataset.moveTo === columnOf(card).dataset.column;
    here ? item.setAttribute("aria-current", "true") : item.removeAttribute("aria-current");
  }
  const {state} = card.dataset, over = state === "completed" || state === "cancelled";
  const fits = {pause: !over, resume: !over, retry: state !== "running" && state !== "completed", cancel: !over};
  for (const item of $$("[data-steer]", menu)) item.hidden = !fits[item.dataset.steer];
  menu.showPopover();
  const at = anchor.getBoundingClientRect(), size = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
  menu.style.top = `${Math.max(8, Math.min(at.bottom + 4, innerHeight - size.height - 8))}px`;
  $(".mi", menu).focus();
}

function closeMenu() {
  menu.hidePopover();
  if (subject?.isConnected) $(".t", subject)?.focus({preventScroll: true});
}

// Closed by whatever means: by us, by Escape before focus came to it, by a click elsewhere.
menu.addEventListener("toggle", event => {
  const lost = document.activeElement === document.body || menu.contains(document.activeElement);
  if (event.newState === "closed" && lost && subject?.isConnected) $(".t", subject).focus({preventScroll: true});
});

menu.addEventListener("keydown", event => {
  const items = $$(".mi:not([hidden])", menu), at = items.indexOf(document.activeElement);
  if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
  else if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus();
  else if (event.key === "Escape" || event.key === "Tab") closeMenu();
  else if (/^[1-9]$/.test(event.key)) $$("[data-move-to]", menu)[event.key - 1]?.click();
  else return;
  event.preventDefault();
  event.stopPropagation();
});

menu.addEventListener("click", async event => {
  const item = event.target.closest(".mi"), card = subject;
  if (!item || !card) return;
  closeMenu();
  if (item.dataset.moveTo) {
    move(card, document.getElementById(`col-${item.dataset.moveTo}`));
  } else if (item.dataset.rank) {
    const cards = cardsIn(columnOf(card)).filter(other => other !== card);
    const top = item.dataset.rank === "top";
    if (cards.length) move(card, columnOf(card), top ? {before: cards[0]} : {after: cards.at(-1)});
  } else {
    try {
      await call("POST", `/cards/${card.dataset.card}/${item.dataset.steer}`, {});
      announce(`${card.dataset.key}: ${item.textContent.trim()} done.`);
    } catch (refusal) {
      await explain(card, columnOf(card), refusal, {});
    }
  }
});

board.addEventListener("click", async event => {
  const target = event.target.closest("button");
  if (!target) return;
  if (target.dataset.menu !== undefined) openMenu(target.closest(".card"), target);
  else if (target.dataset.quickAdd !== undefined) quickAdd(columnOf(target));
  else if (target.dataset.fold !== undefined) fold(columnOf(target));
  else if (target.dataset.option !== undefined) {
    const form = $("[data-answer]", target.closest(".card"));
    $("textarea", form).value = target.dataset.option;
    form.requestSubmit();
  }
});

// More of a column: htmx fetches them, below whatever card is the last one by then.
board.addEventListener("click", event => {
  const button = event.target.closest("[data-more]");
  if (!button) return;
  const column = columnOf(button), last = cardsIn(column).at(-1);
  const place = `?group=${last?.dataset.group ?? 0}&rank=${last?.dataset.rank ?? -(2 ** 52)}`;
  button.setAttribute("hx-get", `/boards/${key}/columns/${column.dataset.column}${place}${query()}`);
}, true);

document.addEventListener("htmx:after:swap", () => {
  // A card that moved up meanwhile came twice: the first is the one that is kept current.
  const seen = new Set();
  for (const card of $$(".card", board)) {
    if (seen.has(card.id)) card.remove();
    else { seen.add(card.id); equip(card); }
  }
  if (document.activeElement === document.body && lastFocus?.isConnected) lastFocus.focus({preventScroll: true});
  rove();
  retape();
});
document.addEventListener("htmx:response:error", () => toast("That could not be loaded; try again."));

function fold(column) {
  const folded = column.classList.toggle("rail");
  const all = $$(".col.rail", board).map(other => other.dataset.column);
  document.cookie = `folded=${all.join("_") || "none"}; path=/boards/${key}; max-age=31536000; samesite=lax`;
  $(folded ? ".unfold" : "header [data-fold]", column).focus();
  unread(column);
}

/* Reads a column that was folded up when the page was made. */
function unread(column) {
  if (column.classList.contains("rail") || column.dataset.unread === undefined) return;
  delete column.dataset.unread;
  const button = $("[data-more]", column);
  if (!button.parentElement.hidden) button.click();
}
const narrow = matchMedia("(max-width: 760px)");
function unfold() {
  if (narrow.matches) $$(".col.rail", board).forEach(column => { column.classList.remove("rail"); unread(column); });
}

board.addEventListener("submit", async event => {
  const form = event.target.closest("[data-answer]");
  if (!form) return;
  event.preventDefault();
  const card = form.closest(".card"), text = $("textarea", form), reply = form.closest("details");
  if (!text.value.trim()) { text.focus(); return; }
  try {
    await call("POST", `/cards/${card.dataset.card}/messages`, {text: text.value, answers: Number(form.dataset.answer)});
    text.value = "";
    reply.open = false;
    announce(`${card.dataset.key} answered.`);
    await refresh([card.dataset.card]);
    $(".t", card).focus({preventScroll: true});
  } catch (refusal) {
    await explain(card, columnOf(card), refusal, {});
  }
});

function quickAdd(column) {
  $(".compose", column)?.remove();
  const row = document.createElement("li");
  row.className = "compose";
  const input = document.createElement("input");
  Object.assign(input, {placeholder: "What is to be done? #label !1", maxLength: 300});
  input.setAttribute("aria-label", `Title of a new card in ${column.dataset.name}`);
  const hint = document.createElement("div");
  hint.className = "ft";
  hint.textContent = "Enter adds, Escape closes";
  row.append(input, hint);
  listOf(column).prepend(row);
  input.focus();
  input.addEventListener("keydown", async event => {
    event.stopPropagation();
    if (event.key === "Escape") { row.remove(); $("[data-quick-add]", column).focus(); }
    if (event.key !== "Enter" || !input.value.trim()) return;
    event.preventDefault();
    const labels = [...input.value.matchAll(/(?:^|\s)#([\w-]+)/g)].map(m => m[1]);
    const urgency = input.value.match(/(?:^|\s)!([0-4])(?=\s|$)/)?.[1];
    const title = input.value.replace(/(?:^|\s)(#[\w-]+|![0-4](?=\s|$))/g, "").trim() || input.value.trim();
    const body = {board: key, title, column: column.dataset.column, labels};
    if (urgency) body.priority = Number(urgency);
    input.disabled = true;
    try {
      const made = await call("POST", "/cards", body, {"Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random())});
      input.value = "";
      announce(`${made.key} added to ${column.dataset.name}.`);
      await refresh([made.id]);
    } catch (refusal) {
      hint.textContent = refusal.message;
      announce(refusal.message, true);
    }
    input.disabled = false;
    input.focus();
  });
}

document.querySelector("[data-new-card]")?.addEventListener("click", () => dialog.showModal());
$("[data-close]", dialog).addEventListener("click", () => dialog.close());
$("form", dialog).addEventListener("submit", async event => {
  event.preventDefault();
  const form = event.target, problem = $(".problem", form);
  problem.hidden = true;
  const body = {
    board: key, title: form.title.value, description: form.description.value,
    column: form.column.value, priority: Number(form.priority.value),
    goal: form.goal.value || null,
    labels: form.labels.value.split(",").map(word => word.trim()).filter(Boolean),
  };
  try {
    if (form.workflow.value.trim()) {
      try { body.workflow = JSON.parse(form.workflow.value); } catch { body.workflow = form.workflow.value; }
    }
    const made = await call("POST", "/cards", body);
    dialog.close();
    form.reset();
    announce(`${made.key} added.`);
    await refresh([made.id]);
    cardOf(made.id)?.querySelector(".t").focus();
  } catch (refusal) {
    problem.textContent = refusal.message;
    problem.hidden = false;
  }
});

/* ---- keyboard --------------------------------------------------------------------------- */

/* One tab stop per column: the card that was focused last in it, else its first. */
let lastFocus = null;
function rove() {
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
  if (event.target.matches("input, textarea, select") || $("dialog[open]") || menu.matches(":popover-open")) return;
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
    c: () => mayWrite && dialog.showModal(), z: undo, "/": () => $("#q")?.focus(),
    "?": () => document.getElementById("keys").showModal(),
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

/* ---- live ------------------------------------------------------------------------------- */

const WORDS = {
  connecting: "Connecting", live: "Live", "catching-up": "Catching up", polling: "Live, slowly",
  offline: "Offline", "signed-out": "Signed out", gone: "No longer a member",
};

const live = connect({
  board: key,
  after: board.dataset.cursor,
  async onEvents(events) {
    const working = events.some(event => event.kind.startsWith("step."));
    document.getElementById("live-seq").textContent = `· event ${events.at(-1).seq.toLocaleString()}`;
    // A step by itself changes only the tape, unless the card isn't shown as running yet.
    const structural = new Set(events.filter(e => e.data.card || e.kind.startsWith("checkpoint.") || e.data.checkpoint).map(e => e.subject));
    if (structural.size) await refresh(structural);
    else if (working) await tapes();
  },
  onState({state, since}) {
    document.getElementById("live-state").textContent = WORDS[state] ?? state;
    document.getElementById("live-dot").classList.toggle("pulse", state === "live");
    board.dataset.live = state;
    const strip = document.getElementById("offline"), away = ["offline", "signed-out", "gone"].includes(state);
    strip.hidden = !away;
    if (away) {
      $("span", strip).textContent = state === "offline"
        ? `Offline since ${since.toLocaleTimeString()}. The board shows what was true then and catches up by itself.`
        : state === "signed-out" ? "You are signed out. Reload the page to sign in again." : "This board is no longer yours to see.";
    }
  },
  onResync: reread,
});

/* Which column a narrow screen shows, and the one it begins with. */
const sights = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (!isIntersecting || !narrow.matches) continue;
    tabs.forEach(tab => tab.removeAttribute("aria-current"));
    const tab = tabs.get(target.id);
    tab.setAttribute("aria-current", "true");
    tab.parentElement.scrollTo({left: tab.offsetLeft - 80});
  }
}, {root: board, threshold: 0.6});
$$(".col", board).forEach(column => sights.observe(column));
if (narrow.matches && !location.hash) {
  const busy = $('.col[data-kind="in_progress"]:has(.card)', board);
  if (busy) board.scrollTo({left: busy.offsetLeft - board.offsetLeft});
}
narrow.addEventListener("change", unfold);
unfold();
rove();
retape();
setInterval(() => {
  const quiet = !document.hidden && $$('.card[data-state="running"]').map(card => card.dataset.card);
  if (quiet?.length) refresh(quiet).catch(() => {});
}, 15_000);
