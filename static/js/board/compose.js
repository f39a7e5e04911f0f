/* New cards: in a row on top of a column, or with everything in a dialog. */
import {announce, call} from "../api.js";
import {refresh} from "./cards.js";
import {$, cardOf, key, listOf} from "./dom.js";

const dialog = document.getElementById("new-card");

export const compose = () => dialog.showModal();

export function quickAdd(column) {
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

document.querySelector("[data-new-card]")?.addEventListener("click", compose);
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
