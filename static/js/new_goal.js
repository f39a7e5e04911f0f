/* Making a goal: once, however often the button is pressed. */
import {call, newKey, sent} from "./api.js";
import {asked, criteria, criteriaIn} from "./criteria.js";

const form = document.getElementById("new-goal");
let key = newKey();

criteria(form);
form.querySelectorAll(".critrow").forEach(asked);
form.addEventListener("input", () => { key = newKey(); });
form.addEventListener("submit", async event => {
  event.preventDefault();
  const {title, intent, constraints, parent} = form.elements;
  const body = {
    board: form.dataset.board, title: title.value, intent: intent.value, criteria: criteriaIn(form),
    constraints: constraints.value.split("\n").map(one => one.trim()).filter(Boolean), parent: parent?.value || null,
  };
  const made = await sent(form, () => call("POST", "/goals", body, {"Idempotency-Key": key}));
  if (made) location.assign(`/goals/${made.id}`);
});
