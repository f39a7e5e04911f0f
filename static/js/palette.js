/* The palette: cards, goals, boards and workers that the server finds, and what can be done here.
   A listbox under a combobox: focus stays in the field, aria-activedescendant says what is chosen. */
import {announce, call, toast} from "./api.js";
import {available, subjectNow} from "./commands.js";
import {gettext, ngettext} from "./words.js";

const sprite = document.querySelector("svg.i use")?.getAttribute("href").split("#")[0] ?? "/static/icons.svg";
const side = document.getElementById("side"), recentIn = `recent:${side?.dataset.user ?? ""}`;
const STATES = {backlog: "idle", waiting: "ready", running: "run", blocked: "need", review: "rev", completed: "ok", cancelled: "idle"};
const PRIORITIES = [gettext("Urgent"), gettext("High"), gettext("Medium"), gettext("Low"), gettext("None")];

const recent = () => { try { return JSON.parse(localStorage.getItem(recentIn)) ?? []; } catch { return []; } };
export function remember(key) {
  localStorage.setItem(recentIn, JSON.stringify([key, ...recent().filter(other => other !== key)].slice(0, 8)));
}

/* ---- the card's own commands ---------------------------------------------------------------- */

async function did(text, path, body, method = "POST") {
  try {
    await call(method, path, body ?? {});
    announce(text);
    toast(text, {seconds: 4});
    if (document.querySelector("#main[data-card]")) dispatchEvent(new Event("focus"));
  } catch (refusal) {
    announce(refusal.message, true);
    toast(refusal.message);
  }
}

/* What fits the card is known only to the server: it refuses the rest in a sentence. */
function ofCard(subject, mayWrite) {
  if (!subject) return [];
  const {id, key, node} = subject, state = node.dataset.state ?? "";
  const over = state === "completed" || state === "cancelled";
  const own = (name, words, icon, run, keys) => ({name: `card.${name}`, words: `${key}: ${words}`, icon, run, keys});
  const link = own("copy", gettext("copy link"), "copy", async () => {
    await navigator.clipboard?.writeText(new URL(`/cards/${key}`, location.origin).href).catch(() => {});
    announce(gettext("Link copied."));
    toast(gettext("Link copied."), {seconds: 3});
  });
  const open = {...own("open", gettext("open its page"), "expand", () => location.assign(`/cards/${key}`), "↵"), href: `/cards/${key}`};
  if (!mayWrite) return [open, link];
  const moves = [...document.querySelectorAll("#move-menu [data-move-to], #card-move [data-move-to]")].map(item => {
    const name = item.querySelector("span")?.textContent ?? item.textContent.trim();
    return own(`move.${item.dataset.moveTo}`, gettext("move to {name}", {name}), "right", async () => {
      const menu = node.matches(".card") && node.querySelector("[data-menu]");
      if (menu) { menu.click(); item.click(); } // as by hand: at once, and it can be undone
      else await did(gettext("{key} moved to {name}.", {key, name}), `/cards/${id}/move`, {column: item.dataset.moveTo});
    }, "M");
  });
  const ranks = PRIORITIES.map((words, level) => own(`priority.${level}`, gettext("priority {words}", {words}), "updown", () =>
    did(gettext("{key}: priority {words}.", {key, words}), `/cards/${id}`, {priority: level}, "PATCH"), "P"));
  const steer = [
    ["pause", gettext("pause"), "pause", !over], ["resume", gettext("resume"), "play", !over],
    ["retry", gettext("retry now"), "play", state !== "running" && state !== "completed"],
    ["approve", gettext("approve"), "check", !state || state === "review"],
    ["cancel", gettext("cancel"), "stop", !over], ["archive", gettext("archive"), "x", !state || over || state === "backlog"],
  ].filter(([, , , fits]) => fits).map(([verb, words, icon]) => own(verb, words, icon, () =>
    did(gettext("{key}: {what} done.", {key, what: words}), `/cards/${id}/${verb}`)));
  return [open, ...steer, ...moves, ...ranks, link];
}

/* ---- ranking ---------------------------------------------------------------------------------- */

/* How well the letters of ``wanted`` fit ``text``, and which they are; null when they don't. */
export function fit(wanted, text) {
  const needle = wanted.toLowerCase(), hay = text.toLowerCase();
  if (!needle) return {score: 0, at: []};
  const whole = hay.indexOf(needle);
  if (whole >= 0) {
    const start = whole === 0 ? 60 : /\W/.test(hay[whole - 1]) ? 45 : 20;
    return {score: 100 + start - hay.length / 100, at: [...needle].map((_, n) => whole + n)};
  }
  const at = [];
  let from = 0, score = 0;
  for (const letter of needle.replace(/\s+/g, "")) {
    const next = hay.indexOf(letter, from);
    if (next < 0) return null;
    score += next === from && at.length ? 6 : next === 0 || /\W/.test(hay[next - 1]) ? 5 : 1 - Math.min(next - from, 10) / 10;
    at.push(next);
    from = next + 1;
  }
  return score > needle.length * 1.5 ? {score, at} : null;
}

function marked(text, at) {
  const holder = document.createElement("span"), on = new Set(at);
  holder.className = "w";
  for (let n = 0; n < text.length;) {
    let end = n + 1;
    while (end < text.length && on.has(end) === on.has(n)) end++;
    const piece = text.slice(n, end);
    if (on.has(n)) holder.append(Object.assign(document.createElement("mark"), {textContent: piece}));
    else holder.append(piece);
    n = end;
  }
  return holder;
}

/* ---- the dialog ---------------------------------------------------------------------------------- */

let dialog, field, list, status, subject, actions = [], options = [], chosen = -1, asked = 0, moved = false, back;

function build() {
  dialog = document.createElement("dialog");
  dialog.className = "palette";
  dialog.id = "palette";
  dialog.setAttribute("aria-label", gettext("Search or run"));
  dialog.innerHTML = `<div class="ask"><svg class="i" viewBox="0 0 16 16" aria-hidden="true"><use href="${sprite}#i-search"/></svg>
    <input type="text" role="combobox" aria-expanded="true" aria-controls="palette-found" aria-autocomplete="list" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="100"></div>
    <div class="found" id="palette-found" role="listbox"></div><div class="hint"></div><div class="sr" role="status"></div>`;
  field = dialog.querySelector("input");
  list = dialog.querySelector(".found");
  status = dialog.querySelector("[role=status]");
  field.placeholder = gettext("Search cards, or type a command");
  field.setAttribute("aria-label", field.placeholder);
  list.setAttribute("aria-label", gettext("What was found"));
  const hint = dialog.querySelector(".hint");
  for (const [key, words, wide] of [[">", gettext("commands")], ["#", gettext("labels")], ["@", gettext("workers")], ["↵", gettext("open"), true], ["Ctrl ↵", gettext("in a new tab"), true], ["Esc", gettext("close"), true]]) {
    const piece = document.createElement("span");
    if (wide) piece.className = "desk2";
    piece.append(Object.assign(document.createElement("kbd"), {textContent: key}), ` ${words}`);
    hint.append(piece);
  }
  document.body.append(dialog);
  field.addEventListener("input", soon);
  dialog.addEventListener("keydown", pressed);
  dialog.addEventListener("close", () => { if (back?.isConnected) back.focus({preventScroll: true}); });
  dialog.addEventListener("click", event => {
    const option = event.target.closest("[role=option]");
    if (option) go(options[Number(option.dataset.n)], event.ctrlKey || event.metaKey);
    else if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("auxclick", event => {
    const option = event.target.closest("[role=option]");
    if (option && event.button === 1) go(options[Number(option.dataset.n)], true);
  });
  list.addEventListener("pointermove", event => {
    const option = event.target.closest("[role=option]");
    if (option && Number(option.dataset.n) !== chosen) choose(Number(option.dataset.n), false);
  });
}

export function open(text = "") {
  if (!dialog) build();
  if (dialog.open) { dialog.close(); return; }
  back = document.activeElement;
  moved = false;
  subject = subjectNow();
  const mayWrite = document.querySelector("#board[data-may-write='1'], #main[data-card] [data-steer], #main[data-card] select[data-column], #drawer footer");
  actions = [...ofCard(subject, !!mayWrite), ...available(subject)];
  field.value = text;
  options = [];
  list.replaceChildren();
  dialog.showModal();
  field.focus();
  fill([]);
  ask();
}

let timer;
function soon() {
  clearTimeout(timer);
  const text = field.value.trim();
  if (text.startsWith(">")) { asked++; fill([]); }
  else timer = setTimeout(ask, 60);
}

async function ask() {
  const turn = ++asked, q = field.value.trim();
  if (q.startsWith(">")) return fill([]);
  const board = document.querySelector("[data-board]")?.dataset.board ?? location.pathname.match(/^\/boards\/([A-Z][A-Z0-9]+)/)?.[1] ?? "";
  const query = new URLSearchParams({q, board, recent: q ? "" : recent().join(",")});
  let sections = [];
  try {
    const answer = await fetch(`/palette?${query}`, {headers: {Accept: "application/json"}});
    if (answer.ok) sections = (await answer.json()).sections;
    else if (answer.status !== 404) throw new Error(String(answer.status));
  } catch {
    if (turn === asked) fill([], gettext("The search can't be reached; commands still work. Try again."));
    return;
  }
  if (turn === asked) fill(sections);
}

function fill(sections, trouble) {
  const text = field.value.trim(), only = text.startsWith(">"), wanted = only ? text.slice(1).trim() : text;
  const named = /^[#@]/.test(text);
  let fitting = named ? [] : actions.map(action => ({action, ...(fit(wanted, action.words) ?? {score: -1})})).filter(found => found.score >= 0);
  if (wanted) fitting.sort((one, other) => other.score - one.score);
  fitting = fitting.slice(0, only ? 60 : wanted ? 8 : 6);
  const commands = {name: gettext("Commands"), items: fitting.map(({action, at}) => ({id: `do-${action.name}`, title: action.words, at, icon: action.icon ?? "right", keys: action.keys, href: action.href, run: action.run}))};
  // A command that begins with what was typed is meant; else what was searched for comes first.
  const sure = fitting[0]?.score > 140 && !sections.some(({items}) => items.some(item => item.key?.toLowerCase() === wanted.toLowerCase()));
  const all = (sure ? [commands, ...sections] : [...sections, commands]).filter(({items}) => items.length);
  const held = options[chosen]?.id;
  options = [];
  list.replaceChildren(...all.map(({name, items}, index) => {
    const group = document.createElement("div"), head = document.createElement("h3");
    group.setAttribute("role", "group");
    group.setAttribute("aria-labelledby", head.id = `palette-h${index}`);
    head.setAttribute("role", "presentation"); // a listbox holds options and groups of them alone
    head.textContent = name;
    group.append(head, ...items.map(item => row(item, named ? wanted.slice(1).trim() : wanted)));
    return group;
  }));
  if (!options.length || trouble) {
    const none = document.createElement("p");
    none.className = "none";
    none.setAttribute("role", "presentation");
    none.textContent = trouble ?? (wanted ? gettext("Nothing fits “{text}”. Try fewer letters, or > for commands.", {text}) : gettext("Nothing here yet."));
    list.prepend(none);
  }
  status.textContent = trouble ?? ngettext("{n} result", "{n} results", options.length);
  const same = options.findIndex(option => option.id === held);
  choose(moved && same >= 0 ? same : 0);
}

function row(item, wanted) {
  const option = document.createElement("div"), n = options.push(item) - 1;
  option.setAttribute("role", "option");
  option.setAttribute("aria-selected", "false");
  option.id = `palette-${n}`;
  option.dataset.n = n;
  const shape = document.createElement("template");
  shape.innerHTML = item.state
    ? `<svg class="st ${STATES[item.state] ?? "idle"}" viewBox="0 0 14 14" aria-hidden="true"><use href="${sprite}#st-${STATES[item.state] ?? "idle"}"/></svg>`
    : `<svg class="i s" viewBox="0 0 16 16" aria-hidden="true"><use href="${sprite}#i-${item.icon ?? "right"}"/></svg>`;
  option.append(shape.content);
  if (item.key) option.append(Object.assign(document.createElement("span"), {className: "key", textContent: item.key}));
  option.append(marked(item.title, item.at ?? fit(wanted, item.title)?.at ?? []));
  if (item.keys) option.append(Object.assign(document.createElement("kbd"), {textContent: item.keys}));
  else if (item.detail) option.append(Object.assign(document.createElement("span"), {className: "sub", textContent: item.detail}));
  return option;
}

function choose(n, scroll = true) {
  list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
  chosen = options.length ? (n + options.length) % options.length : -1;
  const option = document.getElementById(`palette-${chosen}`);
  if (!option) { field.removeAttribute("aria-activedescendant"); return; }
  option.setAttribute("aria-selected", "true");
  field.setAttribute("aria-activedescendant", option.id);
  if (scroll) option.scrollIntoView({block: "nearest"});
}

function pressed(event) {
  moved = event.key.startsWith("Arrow") || event.key.startsWith("Page");
  const move = {ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8}[event.key];
  if (move) {
    event.preventDefault();
    const to = chosen + move;
    choose(Math.abs(move) > 1 ? Math.max(0, Math.min(options.length - 1, to)) : to);
  } else if ((event.key === "Home" || event.key === "End") && !field.value) {
    event.preventDefault();
    choose(event.key === "Home" ? 0 : options.length - 1);
  } else if (event.key === "Enter") {
    event.preventDefault();
    clearTimeout(timer);
    go(options[chosen], event.ctrlKey || event.metaKey);
  }
  event.stopPropagation();
}

function go(item, apart) {
  if (!item) return;
  if (item.key && item.state) remember(item.key);
  if (apart && item.href) { window.open(item.href, "_blank", "noopener"); return; }
  dialog.close();
  if (item.run) item.run(subject);
  else location.assign(item.href);
}
