/* What every page can do: the side bar, the person's menu, the keys that go to pages, and the
   palette, the help and the tour, which come when they are first asked for. */
import {register, run, singleKeys, subjectNow, taken} from "./commands.js";
import "./counted.js";
import {gettext} from "./words.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const root = document.documentElement, side = $("#side"), narrow = matchMedia("(max-width: 760px)");
const mac = /Mac|iPhone|iPad/.test(navigator.platform);
for (const chord of $$("[data-chord]")) chord.textContent = mac ? "⌘K" : "Ctrl K";

/* ---- the side bar ------------------------------------------------------------------------- */

const year = 31536000;
const keep = (name, value) => { document.cookie = `${name}=${value}; path=/; max-age=${value ? year : 0}; samesite=lax`; };
const toggles = () => $$("[data-side-toggle]").filter(button => button.checkVisibility());
let opener;

/* While it lies over a small screen, the page below can't be reached; Escape puts it away. */
function drawn(open) {
  side.classList.toggle("open", open);
  for (const button of toggles()) button.setAttribute("aria-expanded", open);
  for (const below of $$("#main, .tabbar")) below.inert = open;
  if (open) opener = document.activeElement;
  if (open) ($("[aria-current]", side) ?? $("a, button", side)).focus();
  else (toggles().includes(opener) ? opener : toggles()[0])?.focus();
}
function fold(folded) {
  if (folded) root.dataset.side = "folded";
  else delete root.dataset.side;
  keep("side", folded ? "folded" : "");
  foldable();
}
function foldable() {
  const button = $("[data-side-fold]"), folded = root.dataset.side === "folded";
  if (!button) return;
  button.setAttribute("aria-expanded", !folded);
  button.title = folded ? gettext("Unfold the side bar") : gettext("Fold the side bar");
  button.setAttribute("aria-label", button.title);
  for (const link of $$("a.l, .find, .me", side)) {
    if (folded) link.title = $("span:not(.ct)", link)?.textContent ?? "";
    else link.removeAttribute("title");
  }
}
if (side) foldable();
narrow.addEventListener("change", () => { if (side?.classList.contains("open")) drawn(false); });

addEventListener("click", event => {
  const on = selector => event.target.closest?.(selector);
  if (on("[data-side-toggle]")) drawn(!side.classList.contains("open"));
  else if (side?.classList.contains("open") && !side.contains(event.target) && !on("[popover], dialog")) drawn(false);
  if (on("[data-side-fold]")) fold(root.dataset.side !== "folded");
  if (on("[data-palette]")) palette();
  if (on("[data-help]")) { hide(); help(); }
  if (on("[data-tour]")) { hide(); tour(true); }
});
const hide = () => { for (const menu of $$("#person, #switcher")) if (menu.matches(":popover-open")) menu.hidePopover(); };

/* Menus of the side bar stand beside what opened them. */
for (const menu of $$("#person, #switcher")) {
  menu.addEventListener("toggle", event => {
    if (event.newState !== "open") return;
    const anchor = $(`[popovertarget=${menu.id}]`).getBoundingClientRect(), low = menu.id === "person";
    menu.style.left = `${Math.max(8, Math.min(anchor.left, innerWidth - menu.offsetWidth - 8))}px`;
    menu.style.top = `${low ? Math.max(8, anchor.top - menu.offsetHeight - 4) : anchor.bottom + 4}px`;
    $("[aria-current], :checked, a, button", menu)?.focus();
  });
  menu.addEventListener("keydown", event => {
    const items = $$("a, button, input", menu), at = items.indexOf(document.activeElement);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1}[event.key];
    if (to === undefined || event.target.type === "radio") return;
    event.preventDefault();
    items.at(to % items.length)?.focus();
  });
}

/* ---- the person's choices ------------------------------------------------------------------ */

const theme = () => document.cookie.match(/(?:^|; )theme=(light|dark|contrast)/)?.[1] ?? "";
function choose(value) {
  dispatchEvent(new CustomEvent("holdfast:theme", {detail: value}));
  for (const radio of $$("#person [name=theme]")) radio.checked = radio.value === value;
}
function compact(on) {
  keep("density", on ? "compact" : "");
  $("#board")?.classList.toggle("compact", on);
  const box = $("[data-density]");
  if (box) box.checked = on;
}
function single(on) {
  localStorage.setItem("single-keys", on ? "on" : "off");
  for (const box of $$("[data-single-keys]")) box.checked = on;
}
const person = $("#person");
if (person) {
  choose(theme());
  $("[data-density]").checked = /(?:^|; )density=compact/.test(document.cookie);
  single(singleKeys());
}
document.addEventListener("change", event => {
  const box = event.target;
  if (box.name === "theme" && person.contains(box)) choose(box.value);
  if (box.matches("[data-density]")) compact(box.checked);
  if (box.matches("[data-single-keys]")) single(box.checked);
});
$("[data-signout]")?.addEventListener("submit", () => {
  for (const name of Object.keys(localStorage)) if (name.startsWith("recent:")) localStorage.removeItem(name);
});

/* ---- what comes when asked for ---------------------------------------------------------------- */

const palette = text => { hide(); return import("./palette.js").then(part => part.open(text)); };
const help = () => import("./help.js").then(part => part.open());
const tour = again => import("./tour.js").then(part => part.start(again));
if (new URLSearchParams(location.search).has("tour") || (localStorage.getItem("tour-at") && $("#board"))) tour(new URLSearchParams(location.search).has("tour"));

/* ---- keys ------------------------------------------------------------------------------------ */

let going = 0;
addEventListener("keydown", event => {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    event.stopImmediatePropagation();
    palette();
    return;
  }
  if (event.key === "Escape" && side?.classList.contains("open") && !$("[popover]:popover-open")) {
    event.preventDefault();
    drawn(false);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || taken(event)) return;
  const go = going && performance.now() - going < 1500;
  going = 0;
  if (go && singleKeys()) {
    const link = $(`[data-go="${CSS.escape(event.key.toLowerCase())}"]`);
    if (link) { event.preventDefault(); event.stopImmediatePropagation(); link.click(); return; }
  }
  if (event.key === "?") { event.preventDefault(); event.stopImmediatePropagation(); help(); }
  else if (singleKeys() && event.key === "g") { event.preventDefault(); event.stopImmediatePropagation(); going = performance.now(); }
  else if (singleKeys() && event.key === "[") { event.preventDefault(); fold(root.dataset.side !== "folded"); }
}, {capture: true});

/* The key of the board that the page is of. */
const board = () => $("[data-board]")?.dataset.board ?? location.pathname.match(/^\/boards\/([A-Z][A-Z0-9]+)/)?.[1] ?? "";

/* ---- commands ---------------------------------------------------------------------------------- */

const press = selector => ({when: () => !!$(selector), run: () => $(selector).click()});
for (const link of $$("[data-go]", side ?? document)) {
  const words = $("span", link).textContent;
  register({name: `go.${link.dataset.go}`, words: gettext("Go to {page}", {page: words}), keys: `G ${link.dataset.go.toUpperCase()}`, icon: "right", href: link.href, run: () => link.click()});
}
for (const link of $$("#side a.l:not([data-go], [data-goal], [data-view]), #person a, #switcher a:not([aria-current])")) {
  const words = $("span:not(.i)", link)?.textContent.trim();
  if (words && !$(".ring", link)) register({name: `open.${link.getAttribute("href")}`, words: link.closest("#switcher") && $(".sub", link) ? gettext("Switch to the board {name}", {name: words}) : gettext("Go to {page}", {page: words}), icon: "right", href: link.href, run: () => link.click()});
}
for (const [value, words] of [["", gettext("Theme: as the system")], ["light", gettext("Theme: light")], ["dark", gettext("Theme: dark")], ["contrast", gettext("Theme: high contrast")]]) {
  register({name: `theme.${value || "system"}`, words, icon: "moon", when: () => person && theme() !== value, run: () => choose(value)});
}
for (const button of $$("[data-language] button:not([aria-current])")) {
  const name = button.textContent.trim();
  register({name: `language.${button.value}`, words: gettext("Language: {name}", {name}), icon: "brief", run: () => button.click()});
}
const searched = new URLSearchParams(board() ? {board: board()} : {});
register(
  {name: "search", words: gettext("Search everything"), icon: "search", href: `/search?${searched}`, run: () => location.assign(`/search?${searched}`)},
  {name: "help", words: gettext("Keyboard and help"), keys: "?", icon: "brief", run: help},
  {name: "tour", words: gettext("Two-minute tour"), icon: "bulb", ...press("[data-tour]"), run: () => tour(true)},
  {name: "side.fold", words: gettext("Fold or unfold the side bar"), keys: "[", icon: "panel", when: () => !narrow.matches, run: () => fold(root.dataset.side !== "folded")},
  {name: "density", words: gettext("Compact or roomy cards"), icon: "sliders", when: () => !!$("#board"), run: () => compact(!$("[data-density]").checked)},
  {name: "single-keys", words: gettext("Single-key shortcuts on or off"), icon: "sliders", run: () => single(!singleKeys())},
  {name: "signout", words: gettext("Sign out"), icon: "x", when: () => !!$("[data-signout]"), run: () => $("[data-signout]").requestSubmit()},
  {name: "card.new", words: gettext("New card"), keys: "C", icon: "plus", ...press("[data-new-card]")},
  {name: "goal.new", words: gettext("New goal"), icon: "target", when: () => !!$("[data-go=g]"), run: () => location.assign(`${$("[data-go=g]").pathname}/new`)},
  {name: "board.filter", words: gettext("Filter cards"), keys: "F", icon: "filter", ...press("[data-filter-open]")},
  {name: "board.display", words: gettext("Display: lanes, sorting, facts"), icon: "sliders", ...press("[data-display-open]")},
  {name: "board.view", words: gettext("Save this view"), icon: "pin", ...press("[data-save-view]")},
  {name: "undo", words: gettext("Undo"), keys: "Z", icon: "updown", when: () => !!$("#board[data-may-write='1']"), run: () => import("./undo.js").then(part => part.undoLast())},
  {name: "redo", words: gettext("Redo"), keys: "⇧ Z", icon: "updown", when: () => !!$("#board[data-may-write='1']"), run: () => import("./undo.js").then(part => part.redoLast())},
  ...[["move", gettext("Selected cards: move")], ["priority", gettext("Selected cards: priority")], ["label", gettext("Selected cards: label")], ["goal", gettext("Selected cards: goal")], ["more", gettext("Selected cards: steer")], ["archive", gettext("Selected cards: archive")]].map(([what, words]) => ({
    name: `selected.${what}`, words, icon: "check", when: () => !!$(`#bulk:not([hidden]) [data-bulk=${what}]`), run: () => $(`#bulk [data-bulk=${what}]`).click()})),
);
export {run, subjectNow};
