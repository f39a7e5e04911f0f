/* The help: every key, by page, with those of this page first; it can be searched. */
import {available, singleKeys} from "./commands.js";
import {gettext} from "./words.js";

/* A letter alone is one that a setting turns off; "plain" are those that always work. */
const SECTIONS = [
  {name: gettext("Everywhere"), here: () => true, keys: [
    [gettext("Search or run a command"), "Ctrl", "K"], [gettext("This help"), "?"],
    [gettext("Go to inbox, board, goals"), "G", "I / B / G"], [gettext("Go to workers, activity, insights"), "G", "W / A / S"],
    [gettext("Fold the side bar"), "["], [gettext("Close what is open"), "Esc"],
  ]},
  {name: gettext("Board"), here: () => !!document.getElementById("board"), keys: [
    [gettext("Next, previous card"), "J", "K"], [gettext("Next, previous column"), "L", "H"],
    [gettext("Open card"), "↵"], [gettext("Peek at card"), "Space"], [gettext("Move to…"), "M"], [gettext("Move card"), "Alt", "←↑↓→"],
    [gettext("New card"), "C"], [gettext("Priority"), "P"], [gettext("Labels"), "⇧", "L"], [gettext("Archive"), "E"],
    [gettext("Select card"), "X"], [gettext("Select up to here"), "⇧", "X"], [gettext("Select all of the column"), "Ctrl", "A"],
    [gettext("Find"), "/"], [gettext("Filter"), "F"], [gettext("Filter by worker"), "A"], [gettext("Undo"), "Z"], [gettext("Redo"), "⇧", "Z"],
  ]},
  {name: gettext("Drawer and card"), here: () => !!document.querySelector("#main[data-card]:not(.goal), #drawer:not([hidden])"), keys: [
    [gettext("Next, previous card"), "J", "K"], [gettext("Open the whole page"), "↵"], [gettext("Move to…"), "M"], [gettext("Close the drawer"), "Esc"],
    [gettext("Approve, send back"), "A", "D"],
  ]},
  {name: gettext("A log"), here: () => !!document.querySelector("[data-log]"), keys: [
    [gettext("Search every line"), "/"], [gettext("Next, previous match"), "N", "⇧ N"], [gettext("Go to line"), ":"],
    [gettext("Wrap long lines"), "W"], [gettext("Follow what comes"), "F"], [gettext("Copy the marked lines, or all"), "Y"], [gettext("First line, the end"), "Home", "End"],
  ]},
  {name: gettext("Inbox"), here: () => location.pathname.startsWith("/inbox"), keys: [[gettext("Next, previous notice"), "J", "K"], [gettext("Open"), "↵"]]},
  {name: gettext("Search or run"), here: () => false, keys: [
    [gettext("Commands only"), ">"], [gettext("Labels"), "#"], [gettext("Workers"), "@"], [gettext("Open in a new tab"), "Ctrl", "↵"],
  ]},
];

let dialog;

export function open() {
  if (!dialog) build();
  fill();
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("input[type=search]").focus();
}

function build() {
  dialog = document.createElement("dialog");
  dialog.className = "helpsheet";
  dialog.id = "help";
  dialog.setAttribute("aria-labelledby", "help-title");
  dialog.innerHTML = `<form method="dialog"><div class="head"><h2 id="help-title"></h2><div class="field"><input type="search" autocomplete="off"></div></div>
    <div class="keylist" tabindex="0" role="region" aria-labelledby="help-title"></div>
    <label class="check"><input type="checkbox" data-single-keys><span></span></label>
    <div class="row"><button class="btn" type="button" data-palette></button><button class="btn primary" type="submit"></button></div></form>`;
  const say = (selector, text) => { dialog.querySelector(selector).textContent = text; };
  say("h2", gettext("Keyboard and help"));
  say(".check span", gettext("Single keys do these; without, only those with Ctrl, Alt and arrows"));
  say("[data-palette]", gettext("Search or run"));
  say("[type=submit]", gettext("Close"));
  const search = dialog.querySelector("input[type=search]");
  search.placeholder = gettext("Find a key");
  search.setAttribute("aria-label", gettext("Find a key"));
  search.addEventListener("input", fill);
  search.addEventListener("keydown", event => { if (event.key === "Enter") event.preventDefault(); });
  const check = dialog.querySelector("[data-single-keys]");
  check.checked = singleKeys();
  check.addEventListener("change", () => setTimeout(fill));
  dialog.querySelector("[data-palette]").addEventListener("click", () => dialog.close());
  document.body.append(dialog);
}

function fill() {
  const wanted = dialog.querySelector("input[type=search]").value.trim().toLowerCase();
  dialog.querySelector("[data-single-keys]").checked = singleKeys();
  const known = new Set(SECTIONS.flatMap(section => section.keys.map(([words]) => words.toLowerCase())));
  const more = available(null).filter(command => command.keys && !command.name.startsWith("go.") && !known.has(command.words.toLowerCase())
    && !["help", "side.fold", "board.filter"].includes(command.name)).map(command => [command.words, ...command.keys.split(" ")]);
  const sections = [...SECTIONS].sort((one, other) => other.here() - one.here());
  if (more.length) sections.push({name: gettext("Also on this page"), keys: more});
  const list = dialog.querySelector(".keylist");
  list.classList.toggle("off", !singleKeys());
  list.replaceChildren(...sections.map(({name, keys}) => {
    const fitting = keys.filter(row => !wanted || row.join(" ").toLowerCase().includes(wanted) || name.toLowerCase().includes(wanted));
    if (!fitting.length) return "";
    const section = document.createElement("section"), head = document.createElement("h3"), rows = document.createElement("ul");
    head.textContent = name;
    rows.append(...fitting.map(([words, ...strokes]) => {
      const row = document.createElement("li");
      row.append(Object.assign(document.createElement("span"), {textContent: words}), ...strokes.map(stroke => Object.assign(document.createElement("kbd"), {textContent: stroke})));
      return row;
    }));
    section.append(head, rows);
    return section;
  }));
  if (!list.textContent) list.textContent = gettext("No key does that. Commands without a key are in the search.");
}
