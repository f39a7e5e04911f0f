/* A card beside its board: opened from the board, renewed as the board is, walked with J and K. */
import {announce, answering, call, toast} from "./api.js";
import {editing, ready} from "./edit.js";
import {count} from "./lease.js";
import {grown, logs} from "./log.js";
import {gettext} from "./words.js";

const holder = document.getElementById("drawer");
let turn = 0, opener = null, wanted = "";  // the key of the card that was asked for last
const shown = () => holder.querySelector("aside");
const cardIn = key => document.querySelector(`.card[data-key="${CSS.escape(key)}"], [data-row][data-key="${CSS.escape(key)}"]`);

function address(key) {
  const url = new URL(location.href);
  key ? url.searchParams.set("card", key) : url.searchParams.delete("card");
  return url;
}

/* Shows the card, in place of another one or as it is by now. */
async function show(key = wanted, {focus = false} = {}) {
  const asked = ++turn;
  wanted = key;
  const answer = await fetch(`/cards/${encodeURIComponent(key)}/drawer`).catch(() => null);
  if (asked !== turn) return;
  if (!answer?.ok) {
    if (answer?.status === 404 && shown()?.dataset.key === key) close();
    else toast(gettext("{key} could not be opened; try again.", {key}));
    wanted = shown()?.dataset.key;
    return;
  }
  const text = await answer.text();
  if (asked !== turn) return;
  if (shown()?.dataset.key === key) await htmx.swap({text, target: "#card-drawer", sourceElement: holder, swap: "outerMorph"});
  else holder.innerHTML = text;  // made and escaped by the server
  holder.hidden = false;
  document.querySelectorAll(".open-in-drawer").forEach(node => node.classList.remove("open-in-drawer"));
  cardIn(key)?.classList.add("open-in-drawer");
  logs(holder);
  ready(shown());
  count();
  if (focus) { shown().focus({preventScroll: true}); announce(gettext("{key} is open beside the board.", {key})); }
}

function close() {
  const drawer = shown();
  turn++;
  if (!drawer) return;
  const inside = drawer.contains(document.activeElement), key = drawer.dataset.key;
  holder.replaceChildren();
  holder.hidden = true;
  document.querySelectorAll(".open-in-drawer").forEach(node => node.classList.remove("open-in-drawer"));
  if (inside) (cardIn(key)?.querySelector(".t") ?? opener)?.focus({preventScroll: true});
}

function open(key, from) {
  const first = !shown();
  opener = from ?? opener;
  history[first ? "pushState" : "replaceState"]({drawer: key}, "", address(key));
  return show(key, {focus: first && !!from});
}

document.addEventListener("holdfast:open", event => {
  event.preventDefault();
  open(event.detail.key, event.target);
});

addEventListener("popstate", () => {
  const key = new URL(location.href).searchParams.get("card");
  if (key && (key !== wanted || !shown())) show(key);
  else if (!key) close();
});

/* The card above or below in its column. */
function walk(by) {
  const card = cardIn(wanted), list = card?.closest("ol, tbody");
  if (!list) return;
  const cards = [...list.querySelectorAll(".card, [data-row]")], next = cards[cards.indexOf(card) + by];
  if (!next) return announce(gettext("There is no further card in this column."));
  open(next.dataset.key);
  next.scrollIntoView({block: "nearest"});
}

addEventListener("keydown", event => {
  const drawer = shown();
  if (!drawer || event.defaultPrevented || event.key !== "Escape" || document.querySelector("dialog[open], .menu:popover-open")) return;
  event.preventDefault();
  leave();
});

/* Back to the board's own address, whether one came from there or by a link. */
function leave() {
  history.replaceState({}, "", address(""));
  close();
}

async function act(path, body = {}, said = "") {
  const drawer = shown(), {card, key} = drawer.dataset;
  try {
    await call("POST", `/cards/${card}${path}`, body);
    announce(said || key);
    if (shown()) await show();
  } catch (refusal) {
    announce(refusal.message, true);
    toast(refusal.message);
  }
}

document.addEventListener("click", event => {
  const button = event.target.closest("aside.drawer button");
  if (!button || button.closest("[data-edit]")) return;
  const {steer, option, walk: by} = button.dataset, {key} = shown().dataset;
  if (button.dataset.close !== undefined) leave();
  else if (by) walk(Number(by));
  else if (steer) act(`/${steer}`, {}, `${key}: ${button.textContent.trim()}`);
  else if (button.dataset.approve !== undefined) act("/approve", {}, gettext("{key} approved", {key}));
  else if (button.dataset.start !== undefined) act("/move", {column: "in_progress"}, gettext("{key} started", {key}));
  else if (button.dataset.move !== undefined) cardIn(key)?.querySelector("[data-menu]")?.click();
  else if (option !== undefined) { button.form.elements.text.value = option; button.form.requestSubmit(); }
});

document.addEventListener("change", event => {
  if (event.target.matches("aside.drawer select[data-column]")) act("/move", {column: event.target.value}, event.target.selectedOptions[0].textContent);
});

document.addEventListener("submit", async event => {
  const form = event.target.closest("aside.drawer [data-say]");
  if (!form) return;
  event.preventDefault();
  const text = form.elements.text.value, problem = form.querySelector(".problem"), {card, key} = shown().dataset;
  if (!text.trim()) { form.elements.text.focus(); return; }
  try {
    await call("POST", `/cards/${card}/messages`, answering(form.elements.text, form.elements.reason, form.dataset.answers));
    form.elements.text.value = "";
    announce(gettext("{key} answered.", {key}));
    if (shown()) await show();
  } catch (refusal) {
    problem.textContent = refusal.message;
    problem.hidden = false;
  }
});

/* Half-typed text stays: an open form keeps its own words and its version, see edit.js. */
let waiting = 0;
function renew() {
  clearTimeout(waiting);
  waiting = setTimeout(() => shown() && show(), 150);
}
document.addEventListener("holdfast:changed", event => {
  const {ids} = event.detail ?? {};
  if (shown() && (!ids || [...ids].includes(shown().dataset.card))) renew();
});
setInterval(() => {
  if (!shown() || document.hidden) return;
  grown();
}, 1000);
setInterval(() => { if (shown() && !document.hidden) renew(); }, 15_000);

editing(document.body, async () => {
  document.dispatchEvent(new CustomEvent("holdfast:edited"));
  if (shown()) await show();
});

const linked = new URL(location.href).searchParams.get("card");
if (linked) show(linked, {focus: true});
