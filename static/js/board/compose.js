/* New cards: in a row on top of a column, or with everything in a dialog. */
import {announce, call, newKey, sent, sentence} from "../api.js";
import {gettext, ngettext} from "../words.js";
import {ask} from "./asking.js";
import {chosen, offer} from "../templates.js";
import {refresh} from "./cards.js";
import {$, cardOf, cellsOf, columnOf, key, laned, listOf, make} from "./dom.js";

const MOST_LINES = 50;
const dialog = document.getElementById("new-card");

export const compose = () => {
  dialog.showModal();
  offer($("form", dialog), key).catch(() => {});
};

const URGENCY = {urgent: 0, high: 1, medium: 2, low: 3, none: 4};
const TOKEN = /(^|\s)(#[\w-]+|!(?:[0-4]|urgent|high|medium|low|none)|after:[A-Za-z][A-Za-z0-9]+-\d+)(?=\s|$)/gi;

/* What a line says of a card: its title, and what "#label !high after:PAY-3" in it mean. */
export function spelt(line) {
  const fields = {labels: [], depends_on: []};
  const title = line.replace(TOKEN, (whole, space, token) => {
    const word = token.slice(1).toLowerCase();
    if (token[0] === "#") fields.labels.push(token.slice(1));
    else if (token[0] === "!") fields.priority = URGENCY[word] ?? Number(word);
    else fields.depends_on.push(token.slice("after:".length).toUpperCase());
    return space;
  }).replace(/\s+/g, " ").trim();
  return {...fields, title: title || line.trim()};
}

/* What will become of the tokens, below the line while it is typed. */
function hinted({labels, depends_on: after, priority}) {
  const parts = labels.map(label => `#${label}`);
  if (priority !== undefined) parts.push(gettext("priority {name}", {name: Object.keys(URGENCY)[priority]}));
  if (after.length) parts.push(gettext("after {keys}", {keys: after.join(", ")}));
  return parts.length ? parts.join(" · ") : gettext("Enter adds, Escape closes");
}

/* What a new card in this lane is given. */
function laneFields(lane) {
  if (!lane || lane === "none") return {};
  return {goal: {goal: lane}, priority: {priority: Number(lane)}}[laned()] ?? {};
}

export function quickAdd(button) {
  const head = button.closest("[data-column]"), {column: id, name} = head.dataset;
  const column = columnOf(button) ?? cellsOf(id).find(cell => !cell.closest(".lane.folded"));
  if (!column) return;
  $(".compose", column)?.remove();
  const input = make("input", {placeholder: gettext("What is to be done? #label !high after:KEY"), "aria-label": gettext("Title of a new card in {name}", {name})});
  const hint = make("div", {className: "ft", role: "status", textContent: gettext("Enter adds, Escape closes")});
  const row = make("li", {className: "compose"}, input, hint);
  listOf(column).prepend(row);
  input.focus();
  input.addEventListener("input", () => { hint.textContent = hinted(spelt(input.value)); });
  input.addEventListener("keydown", async event => {
    event.stopPropagation();
    if (event.key === "Escape") { row.remove(); button.focus(); }
    if (event.key !== "Enter" || event.isComposing || !input.value.trim()) return;
    event.preventDefault();
    if (await add([input.value])) input.value = "";
  });
  input.addEventListener("paste", async event => {
    const lines = event.clipboardData.getData("text").split(/\r?\n/).map(line => line.replace(/^\s*(?:[-*]|\d+\.)\s+(?:\[.\]\s+)?/, "").trim()).filter(Boolean);
    if (lines.length < 2) return;
    event.preventDefault();
    const many = lines.slice(0, MOST_LINES);
    const wanted = await ask({
      title: ngettext("{n} line", "{n} lines", lines.length),
      text: lines.length > MOST_LINES ? gettext("The first {n} can become cards.", {n: MOST_LINES}) : gettext("Each can become a card in {name}.", {name}),
      choices: [
        {value: "", label: gettext("Cancel")},
        {value: "one", label: gettext("One card")},
        {value: "many", label: ngettext("{n} card", "{n} cards", many.length), primary: true},
      ],
    });
    input.focus();
    if (wanted === "one") input.value = lines.join(" ");
    else if (wanted === "many") await add(many);
    input.focus();
  });

  /* True if all lines became cards; the first that is refused stays to be put right. */
  async function add(lines) {
    const made = [];
    let refused = "";
    input.disabled = true;
    for (const line of lines) {
      const body = {board: key, column: id, ...laneFields(column.dataset.lane), ...spelt(line)};
      try {
        made.push(await call("POST", "/cards", body, {"Idempotency-Key": newKey()}));
      } catch (refusal) {
        refused = sentence(refusal);
        input.value = line;
        break;
      }
    }
    hint.textContent = refused || gettext("Enter adds, Escape closes");
    const text = made.length === 1 ? gettext("{key} added to {name}.", {key: made[0].key, name}) : ngettext("{n} card added to {name}.", "{n} cards added to {name}.", made.length, {name});
    if (made.length) announce(text);
    if (refused) announce(refused, true);
    await refresh(made.map(card => card.id)).catch(() => {});
    input.disabled = false;
    input.focus();
    return !refused;
  }
}

document.querySelector("[data-new-card]")?.addEventListener("click", compose);
$("[data-close]", dialog).addEventListener("click", () => dialog.close());
$("form", dialog).addEventListener("submit", async event => {
  event.preventDefault();
  const form = event.target;
  const body = {
    board: key, title: form.title.value, description: form.description.value,
    column: form.column.value, priority: Number(form.priority.value),
    goal: form.goal.value || null,
    labels: form.labels.value.split(",").map(word => word.trim()).filter(Boolean),
    ...chosen(form),
  };
  if (!body.template && form.workflow.value.trim()) {
    try { body.workflow = JSON.parse(form.workflow.value); } catch { body.workflow = form.workflow.value; }
  }
  const made = await sent(form, () => call("POST", "/cards", body));
  if (!made) return;
  dialog.close();
  form.reset();
  announce(gettext("{key} added.", made));
  await refresh([made.id]);
  cardOf(made.id)?.querySelector(".t").focus();
});
