/* Forms that say what a card, a goal or a board may use: <form data-budget="/goals/…">. */
import {announce, call, toast} from "./api.js";
import {gettext} from "./words.js";

/* The other names under which a budget may have the same. */
const ALSO = {cost_usd: "usd", follow_ups: "cards"};

document.addEventListener("submit", async event => {
  const form = event.target.closest("[data-budget]");
  if (!form) return;
  event.preventDefault();
  const line = form.querySelector(".problem"), button = form.querySelector("[type=submit]");
  const budgets = JSON.parse(form.dataset.was);
  for (const {name, value} of form.querySelectorAll("input[name]")) {
    delete budgets[name];
    delete budgets[ALSO[name]];
    // Money as it was typed: a number would not keep its digits.
    if (value) budgets[name] = name === "cost_usd" ? value : Number(value);
  }
  button.disabled = true;
  try {
    await call("PATCH", form.dataset.budget, {budgets});
    form.dataset.was = JSON.stringify(budgets);
    line.hidden = true;
    form.closest("details").open = false;
    announce(gettext("Saved."));
    toast(gettext("Saved."), {seconds: 3});
    form.dispatchEvent(new CustomEvent("budget-saved", {bubbles: true}));
  } catch (refusal) {
    line.textContent = Object.values(refusal.errors ?? {})[0]?.[0] ?? refusal.message;
    line.hidden = false;
    announce(line.textContent, true);
  } finally { button.disabled = false; }
});
document.addEventListener("click", event => {
  const shut = event.target.closest("[data-budget] [data-shut]");
  if (shut) shut.closest("details").open = false;
});
