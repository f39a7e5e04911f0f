/* What the board shows and how: filters and their address, display, columns' menus, lanes that
   fold up, saved views, archive. Works on the table as well. */
import {announce, call, toast} from "./api.js";
import {asOf} from "./board/feed.js";
import {gettext, ngettext} from "./words.js";

const board = document.getElementById("board"), key = board.dataset.board;
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const TYPING = 250, COUNTING = 3000, DAYS = 14, MOST = 200;
const NARROWING = ["q", "show", "goal", "label", "worker", "prio", "due"];

function keep(name, value) {
  document.cookie = `${name}=${value}; path=/boards/${key}; max-age=31536000; samesite=lax`;
}

/* ---- the address ------------------------------------------------------------------------ */

let asking = 0;

/* Shows what an address of this board shows, in place: focus, scroll and what is typed stay. */
export async function go(url, {quiet = false} = {}) {
  const mine = ++asking, address = new URL(url, location.href);
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(answer.status);
    const text = await answer.text();
    if (mine !== asking) return;
    history.replaceState(null, "", address);
    await htmx.swap({text, target: "#view", select: "#view", sourceElement: board, swap: "outerMorph"});
    fill();
    mark();
    if (quiet) return;
    const cards = $$("#board .card, #board tbody tr[data-card]").length;
    announce(cards ? ngettext("{n} card shown.", "{n} cards shown.", cards) : gettext("No card matches."));
  } catch {
    if (!quiet) toast(gettext("That could not be loaded; try again."));
  }
}

/* The address with other values in it; empty ones are left out. */
function address(changes) {
  const query = new URLSearchParams(board.dataset.query);
  for (const [name, value] of Object.entries(changes)) value ? query.set(name, value) : query.delete(name);
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  return location.pathname + (text ? `?${text}` : "");
}

document.addEventListener("click", event => {
  const link = event.target.closest("[data-filter-link]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.href);
});

/* ---- filter ----------------------------------------------------------------------------- */

const form = document.getElementById("filter-form"), words = document.getElementById("q");
const mirror = $("[data-mirror]", form);

/* Has the form say what the address says. */
function fill() {
  const query = new URLSearchParams(board.dataset.query);
  const levels = (query.get("prio") ?? "").split(",");
  for (const field of form.elements) {
    if (!NARROWING.includes(field.name) || field === document.activeElement) continue;
    if (field.type === "checkbox") field.checked = levels.includes(field.value);
    else field.value = query.get(field.name) ?? "";
  }
  mirror.value = words.value;
}

function filter() {
  const data = new FormData(form), changes = {};
  for (const name of NARROWING) changes[name] = data.getAll(name).map(value => value.trim()).filter(Boolean).join(",");
  return go(address(changes));
}

let typing = 0;
function typed() {
  clearTimeout(typing);
  typing = setTimeout(filter, TYPING);
}
words.addEventListener("input", typed);
words.addEventListener("keydown", async event => {
  const leaves = event.key === "Escape" && !words.value;
  if (event.isComposing || (event.key !== "Enter" && !leaves)) return;
  event.preventDefault();
  clearTimeout(typing);
  if (!leaves) await filter();
  // On to what was found; where that is nothing, to other words.
  $$(".card .t, .cards-table .t").find(link => link.checkVisibility())?.focus();
});
mirror.addEventListener("input", () => { words.value = mirror.value; typed(); });
form.addEventListener("input", event => { if (event.target.matches("input:not([type=checkbox])")) typed(); });
form.addEventListener("change", event => { if (event.target.matches("select, [type=checkbox]")) filter(); });
form.addEventListener("submit", event => {
  event.preventDefault();
  clearTimeout(typing);
  if (panels.filter.matches(":popover-open")) panels.filter.hidePopover();
  filter();
});
$("[data-clear]", form).addEventListener("click", () => {
  words.value = mirror.value = "";
  go(address(Object.fromEntries(NARROWING.map(name => [name, ""]))));
});

/* ---- panels and menus ------------------------------------------------------------------- */

const panels = {filter: document.getElementById("filter"), display: document.getElementById("display")};
const columnMenu = document.getElementById("column-menu"), viewMenu = document.getElementById("view-menu");
let opener = null, subject = null;

function open(panel, button) {
  opener = button;
  panel.showPopover();
  const at = button.getBoundingClientRect(), size = panel.getBoundingClientRect();
  panel.style.left = `${Math.max(8, Math.min(at.right - size.width, innerWidth - size.width - 8))}px`;
  panel.style.top = `${Math.max(8, Math.min(at.bottom + 4, innerHeight - size.height - 8))}px`;
  const first = $$("input, select, .mi, a", panel).find(node => node.getClientRects().length && !node.disabled);
  first?.focus();
}

for (const panel of [...Object.values(panels), columnMenu, viewMenu]) {
  panel.addEventListener("toggle", event => {
    const lost = document.activeElement === document.body || panel.contains(document.activeElement);
    if (event.newState === "closed" && lost && opener?.isConnected) opener.focus({preventScroll: true});
  });
}
for (const menu of [columnMenu, viewMenu]) {
  menu.addEventListener("keydown", event => {
    const items = $$(".mi", menu).filter(item => item.getClientRects().length);
    const at = items.indexOf(document.activeElement);
    if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
    else if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus();
    else if (event.key === "Home") items[0].focus();
    else if (event.key === "End") items.at(-1).focus();
    else if (event.key === "Escape" || event.key === "Tab") menu.hidePopover();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.filterOpen !== undefined) { fill(); open(panels.filter, button); }
  else if (button.dataset.displayOpen !== undefined) open(panels.display, button);
  else if (button.dataset.columnMenu !== undefined) openColumn(button);
  else if (button.dataset.foldLane !== undefined) foldLane(button.closest(".lane"));
  else if (button.dataset.saveView !== undefined) saveView();
  else if (button.dataset.view !== undefined) openView(button);
  else if (button.dataset.restore !== undefined) restore(button);
});

/* Asks for one line of text, and maybe whether others see it; resolves with what `save` gives. */
const dialog = document.getElementById("ask-one");
function ask({title, label, value = "", number = false, shareable = false, shared = false, save}) {
  const asked = $("form", dialog), problem = $(".problem", asked), input = asked.elements.value;
  const share = $("[data-shared]", asked);
  $("h2", asked).textContent = title;
  $("[data-label]", asked).textContent = label;
  Object.assign(input, {value, type: number ? "number" : "text", min: number ? "1" : ""});
  share.hidden = !shareable;
  $("input", share).checked = shared;
  problem.hidden = true;
  asked.onsubmit = async event => {
    event.preventDefault();
    try {
      await save(input.value.trim(), $("input", share).checked);
      dialog.close();
    } catch (refusal) {
      problem.textContent = refusal.message;
      problem.hidden = false;
      input.focus();
    }
  };
  dialog.showModal();
  input.select();
}
$("[data-close]", dialog).addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => { if (opener?.isConnected) opener.focus({preventScroll: true}); });

/* ---- display ---------------------------------------------------------------------------- */

panels.display.addEventListener("change", event => {
  const {name, value, checked} = event.target;
  if (event.target.dataset.arrange !== undefined) location.assign(address({[name]: value}));
  else if (name === "density") {
    keep("density", value);
    board.classList.toggle("compact", value === "compact");
  } else if (name === "fact") {
    board.classList.toggle(`no-${value}`, !checked);
    const hidden = $$('[name="fact"]:not(:checked)', panels.display).map(box => box.value);
    keep("facts", hidden.join("_"));
  }
});
panels.display.addEventListener("submit", event => event.preventDefault());

/* ---- columns ---------------------------------------------------------------------------- */

const columnsOf = pk => $$(`[data-column="${pk}"]`, board);

function openColumn(button) {
  const [head] = columnsOf(button.dataset.columnMenu), completed = head.dataset.kind === "completed";
  subject = head;
  $("[data-column-title]", columnMenu).textContent = head.dataset.name;
  for (const item of $$("[data-only-completed]", columnMenu)) item.hidden = !completed;
  const folds = $('[data-do="fold"]', columnMenu);
  folds.hidden = !head.matches(".col");
  for (const link of $$("[data-sort-by]", columnMenu)) link.href = address({sort: link.dataset.sortBy});
  open(columnMenu, button);
}

columnMenu.addEventListener("click", async event => {
  const item = event.target.closest("[data-do]");
  if (!item) return;
  const what = item.dataset.do, head = subject;
  columnMenu.hidePopover();
  if (what === "fold") (await import("./board/columns.js")).fold(head);
  else if (what === "archive") archiveOld(head);
  else if (what === "rename") {
    ask({
      title: gettext("Rename {name}", {name: head.dataset.name}), label: gettext("Name"), value: head.dataset.name,
      save: name => editColumn(head.dataset.column, {name}),
    });
  } else {
    ask({
      title: gettext("WIP limit of {name}", {name: head.dataset.name}), number: true, value: head.dataset.wip,
      label: gettext("Cards at most; nothing for no limit"),
      save: limit => editColumn(head.dataset.column, {wip_limit: limit ? Number(limit) : null}),
    });
  }
});

async function editColumn(pk, changes) {
  const found = await call("GET", `/boards/${key}`);
  const columns = found.columns.map(column => column.id === pk ? {...column, ...changes} : column);
  await call("PATCH", `/boards/${key}`, {columns}, {"If-Match": `"${found.version}"`});
  await go(location.href);
  announce(gettext("Column changed."));
}

/* Counts change under a limit as cards come and go: what they mean for it follows them. */
function limits() {
  for (const head of $$("[data-wip]", board)) {
    const limit = Number(head.dataset.wip), at = $(".n [data-count]", head), bar = $(".wip", head);
    if (!limit || !at || !bar) continue;
    const count = Number(at.textContent);
    bar.classList.toggle("near", limit > 1 && count === limit - 1);
    for (const node of [bar, at.parentElement]) node.classList.toggle("over-limit", count > limit);
  }
}
new MutationObserver(limits).observe(board, {subtree: true, characterData: true, childList: true});

async function archiveOld(head) {
  const before = Date.now() - DAYS * 86_400_000, old = [];
  const note = toast(gettext("Looking for cards that were finished long ago…"), {seconds: 60});
  try {
    for (let cursor = ""; cursor !== null;) {
      const at = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
      const {results, next} = await call("GET", `/cards?board=${key}&column=${head.dataset.column}&limit=${MOST}${at}`);
      old.push(...results.filter(card => Date.parse(card.state_since_at) < before).map(card => card.id));
      cursor = next;
    }
    const done = await changeAll(old, "archive");
    note();
    if (!done.length) { toast(gettext("No card here was finished more than {days} days ago.", {days: DAYS})); return; }
    await go(location.href);
    const words = ngettext("{n} card archived", "{n} cards archived", done.length);
    announce(words);
    toast(words, {label: gettext("Undo"), action: async () => { await changeAll(done, "unarchive"); go(location.href); }});
  } catch (refusal) {
    note();
    toast(refusal.message);
  }
}

async function changeAll(ids, action) {
  const done = [];
  for (let n = 0; n < ids.length; n += MOST) {
    const {results} = await call("POST", "/cards/bulk", {cards: ids.slice(n, n + MOST), action});
    done.push(...results.filter(result => result.ok).map(result => result.card));
  }
  return done;
}

async function restore(button) {
  const row = button.closest("tr"), next = (row.nextElementSibling ?? row.previousElementSibling);
  try {
    await call("POST", `/cards/${button.dataset.restore}/unarchive`, {});
    announce(gettext("{key} is back on the board.", {key: row.dataset.key}));
    toast(gettext("{key} is back on the board.", {key: row.dataset.key}));
    row.remove();
    if (next?.isConnected) $("button, a", next)?.focus();
    else go(location.href);
  } catch (refusal) {
    toast(refusal.message);
  }
}

/* ---- lanes ------------------------------------------------------------------------------ */

function foldLane(lane) {
  const folded = lane.classList.toggle("folded");
  $("[data-fold-lane]", lane).setAttribute("aria-expanded", String(!folded));
  keep("folded_lanes", $$(".lane.folded", board).map(other => other.dataset.lane).slice(0, 60).join("_"));
  if (folded) return;
  for (const cell of $$(".col[data-unread]", lane)) {
    delete cell.dataset.unread;
    const more = $("[data-more]", cell);
    if (!more.parentElement.hidden) more.click();
  }
}

/* ---- saved views ------------------------------------------------------------------------ */

const views = document.getElementById("views");
let counting = 0;

async function showViews() {
  counting = 0;
  const answer = await fetch(`${views.dataset.views}?${asOf()}`).catch(() => null);
  if (!answer?.ok || viewMenu.matches(":popover-open")) return;
  const focused = document.activeElement?.closest("#views a, #views button");
  const again = focused && (focused.dataset.view ? `[data-view="${focused.dataset.view}"]` : `[data-view-query="${CSS.escape(focused.dataset.viewQuery)}"]`);
  views.innerHTML = await answer.text();
  if (again) $(again, views)?.focus({preventScroll: true});
  mark();
}

/* Says which saved view is the one shown. */
function mark() {
  for (const link of $$("[data-view-query]", views)) {
    const on = link.dataset.viewQuery === board.dataset.query && board.dataset.query;
    on ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }
}

function saveView() {
  opener = $("[data-save-view]");
  ask({
    title: gettext("Save view"), label: gettext("Name"), shareable: !!board.dataset.mayWrite,
    async save(name, shared) {
      await call("POST", `/boards/${key}/views`, {name, shared, query: board.dataset.query}, {"Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random())});
      toast(gettext("View “{name}” saved.", {name}));
      await showViews();
    },
  });
}

function openView(button) {
  subject = button;
  $("[data-view-title]", viewMenu).textContent = button.dataset.name;
  $('[data-do="share"]', viewMenu)?.setAttribute("aria-checked", String(!!button.dataset.shared));
  open(viewMenu, button);
}

viewMenu.addEventListener("click", async event => {
  const item = event.target.closest("[data-do]");
  if (!item) return;
  const {view, name, shared} = subject.dataset, path = `/boards/${key}/views/${view}`;
  viewMenu.hidePopover();
  const change = async changes => { await call("PATCH", path, changes); await showViews(); };
  try {
    if (item.dataset.do === "rename") {
      ask({title: gettext("Rename {name}", {name}), label: gettext("Name"), value: name, save: fresh => change({name: fresh})});
    } else if (item.dataset.do === "share") {
      await change({shared: !shared});
      toast(shared ? gettext("Only you see “{name}” now.", {name}) : gettext("Everybody on the board sees “{name}” now.", {name}));
    } else if (item.dataset.do === "update") {
      await change({query: board.dataset.query});
      toast(gettext("View “{name}” saved.", {name}));
    } else {
      await call("DELETE", path);
      await showViews();
      toast(gettext("View “{name}” deleted.", {name}));
    }
  } catch (refusal) {
    toast(refusal.message);
  }
});

// The counts beside the views follow the board, at some distance.
const live = document.getElementById("live-seq");
if (live) {
  new MutationObserver(() => { counting ||= setTimeout(showViews, COUNTING); }).observe(live, {childList: true, characterData: true, subtree: true});
}
limits();
showViews();
