/* Forms that say what a card, a goal or a board may use, <form data-budget="/goals/…">, and how much
   of it may run at once, <form data-sharing="/boards/…">. */
import {announce, call, toast} from "./api.js";
import {gettext} from "./words.js";

/* The other names under which a budget may have the same. */
const ALSO = {cost_usd: "usd", follow_ups: "cards"};

function budgetsIn(form) {
  const budgets = JSON.parse(form.dataset.was);
  for (const {name, value} of form.querySelectorAll("input[name]")) {
    delete budgets[name];
    delete budgets[ALSO[name]];
    // Money as it was typed: a number would not keep its digits.
    if (value) budgets[name] = name === "cost_usd" ? value : Number(value);
  }
  return {budgets};
}

/* "gpu 1, slow 2" as {gpu: 1, slow: 2}; what has no number is sent as it is, and refused by name. */
const pairs = text => Object.fromEntries(text.split(",").map(part => part.trim()).filter(Boolean).map(part => {
  const [, name, most] = part.match(/^(.*?)[\s:=]+(\d+)$/) ?? [null, part, "?"];
  return [name.trim(), /^\d+$/.test(most) ? Number(most) : most];
}));

function sharingIn(form) {
  const {share, max_running: most, each_worker: each, labels, workers, ageing_hours: hours} = form.elements;
  const asked = {share: Number(share.value), max_running: Number(most.value) || null};
  if (!labels) return asked;
  const caps = {labels: pairs(labels.value), workers: pairs(workers.value)};
  for (const name of ["labels", "workers"]) if (!Object.keys(caps[name]).length) delete caps[name];
  if (each.value) caps.each_worker = Number(each.value);
  return {...asked, caps, ageing_seconds: hours.value ? Math.round(Number(hours.value) * 3600) : null};
}

document.addEventListener("submit", async event => {
  const form = event.target.closest("[data-budget], [data-sharing]");
  if (!form) return;
  event.preventDefault();
  const line = form.querySelector(".problem"), button = form.querySelector("[type=submit]");
  const path = form.dataset.budget ?? form.dataset.sharing;
  const changes = form.dataset.budget ? budgetsIn(form) : sharingIn(form);
  button.disabled = true;
  try {
    const {version} = await call("PATCH", path, changes);
    if (changes.budgets) form.dataset.was = JSON.stringify(changes.budgets);
    line.hidden = true;
    form.closest("details").open = false;
    announce(gettext("Saved."));
    toast(gettext("Saved."), {seconds: 3});
    form.dispatchEvent(new CustomEvent("budget-saved", {bubbles: true, detail: {path, version}}));
  } catch (refusal) {
    const [name, said] = Object.entries(refusal.errors ?? {})[0] ?? [];
    line.textContent = name ? `${name}: ${[said].flat()[0]}` : refusal.message;
    line.hidden = false;
    announce(line.textContent, true);
  } finally { button.disabled = false; }
});
document.addEventListener("click", event => {
  const shut = event.target.closest("[data-budget] [data-shut], [data-sharing] [data-shut]");
  if (shut) shut.closest("details").open = false;
});
