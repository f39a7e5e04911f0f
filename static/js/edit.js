/* Editing in place: <details class="ed"> shows a value and opens on a form that changes it.
 *
 * The form knows the field (data-edit), how its value is meant (data-kind) and what it was
 * (data-was). Saved with the version that was shown when it was opened: if somebody changed the
 * field since, theirs is shown beside what was typed, and nothing is lost.
 */
import {announce, call} from "./api.js";
import {pushUndo} from "./undo.js";
import {gettext} from "./words.js";

/* What a form was opened with: the version, and what the field was. Kept apart from the form, which
   is made like the server's each time the page is renewed. */
const opened = new WeakMap();
const dirty = new WeakSet();

/* How a change goes to the server. A board keeps it while that is away: see board/queue.js. */
let carry = ({card, fields, version}) => call("PATCH", `/cards/${card}`, fields, {"If-Match": `"${version}"`});
export const carriedBy = other => { carry = other; };

/* Writes of this page follow each other: a version that only this page has left behind leads on to
   the one it made, so that what it did before can still be taken back. Gives what there is by then:
   {version}, and `queued` where it is yet to be made. */
const own = new Map();
async function patch(card, fields, {version, queued}, what) {
  version = queued?.answer?.version ?? version;
  for (let next; (next = own.get(`${card} ${version}`));) version = next;
  const told = await carry({card, fields, version, what});
  if (told.queued) return {version, queued: told.queued};
  own.set(`${card} ${version}`, told.version);
  return {version: told.version};
}

const holderOf = node => node.closest("[data-card][data-version]");
const words = text => [...new Set(text.split(/[,\n]/).map(word => word.trim()).filter(Boolean))];
const KINDS = {
  words, numbers: text => words(text).map(Number), number: Number, amount: text => text === "" ? null : Number(text), truth: text => text === "true",
  instant: text => text ? new Date(text).toISOString() : null,
  lines: text => text.split("\n").map(line => line.trim()).filter(Boolean), seconds: text => text ? Number(text) : null,
};
const NULLABLE = new Set(["goal", "due_at"]);
const meant = (form, text) => KINDS[form.dataset.kind] ? KINDS[form.dataset.kind](text) : form.dataset.edit === "priority" ? Number(text) : !text && NULLABLE.has(form.dataset.edit) ? null : text;

/* An instant as a field of the reader's own time takes it. */
function local(instant) {
  if (!instant) return "";
  const at = new Date(instant);
  return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function problem(form, text, theirs) {
  const line = form.querySelector(".problem");
  line.textContent = text;
  line.hidden = !text;
  form.querySelector(".theirs")?.remove();
  if (theirs === undefined) return;
  const shown = Object.assign(document.createElement("div"), {className: "theirs", tabIndex: 0});
  shown.textContent = typeof theirs === "string" ? theirs : JSON.stringify(theirs);
  line.after(shown);
}

function shut(form) {
  const ed = form.closest("details");
  ed.open = false;
  ed.querySelector("summary").focus({preventScroll: true});
}

/* Shows beside a field what it will be, until the page is renewed. */
function waits(ed, text) {
  if (!ed.nextElementSibling?.matches(".waits")) ed.after(Object.assign(document.createElement("div"), {className: "theirs waits"}));
  ed.nextElementSibling.textContent = text;
}

/* Changes one field of a card; afterwards it can be taken back. `changed` renews what shows it. */
async function save(form, text, changed) {
  const {card, key} = holderOf(form).dataset, field = form.dataset.edit, ed = form.closest("details");
  const terms = opened.get(form) ?? {version: holderOf(form).dataset.version, was: form.dataset.was};
  const {was} = terms, value = meant(form, text);
  if (JSON.stringify(value) === JSON.stringify(meant(form, was))) { shut(form); return; }
  const label = gettext("{key}: {field} changed", {key, field: fieldName(field)});
  let by = {version: terms.version};
  const put = async wanted => { by = await patch(card, {[field]: wanted}, by, label); };
  const renew = () => by.queued ? undefined : changed(card);
  try {
    await put(value);
    problem(form, "");
    dirty.delete(form);
    shut(form);
    announce(by.queued ? gettext("{key}: {field} will be changed when the server is back.", {key, field: fieldName(field)}) : label);
    if (by.queued) waits(ed, text);
    pushUndo({
      label,
      undo: async () => { await put(meant(form, was)); await renew(); },
      redo: async () => { await put(value); await renew(); },
    });
    await renew();
  } catch (refusal) {
    const {current} = refusal;
    if (refusal.status === 412 && current) {
      // Saved again, it is known what is overwritten.
      terms.version = current.version;
      const theirs = current[field], same = JSON.stringify(theirs) === JSON.stringify(meant(form, was));
      problem(form, same
        ? gettext("Somebody changed this card meanwhile, but not this. Save again to keep yours.")
        : gettext("Somebody changed this meanwhile. It is now as below; save again to put yours in its place."), same ? undefined : theirs);
    } else {
      problem(form, Object.values(refusal.errors ?? {})[0]?.[0] ?? refusal.message);
    }
    announce(form.querySelector(".problem").textContent, true);
  }
}

const NAMES = {
  title: () => gettext("title"), description: () => gettext("description"), priority: () => gettext("priority"),
  goal: () => gettext("goal"), labels: () => gettext("labels"), requires: () => gettext("requirements"),
  depends_on: () => gettext("dependencies"), due_at: () => gettext("due date"),
  intent: () => gettext("intent"), constraints: () => gettext("constraints"), status: () => gettext("status"),
  evidence_required: () => gettext("evidence"), achieves_itself: () => gettext("what follows"), check_every_seconds: () => gettext("checks"),
  review_required: () => gettext("review"), max_attempts: () => gettext("number of tries"), estimate: () => gettext("estimate"), covers: () => gettext("criteria"),
};
export const fieldName = field => NAMES[field]?.() ?? field;

/* The cards of the board that a word finds, to be waited for. */
let asking = 0;
async function find(input) {
  const list = input.form.querySelector("[data-found]"), last = input.value.split(",").at(-1).trim(), turn = ++asking;
  if (last.length < 2) { list.replaceChildren(); return; }
  const answer = await fetch(`/api/v1/cards?${new URLSearchParams({board: input.dataset.cards, q: last, limit: 6})}`).catch(() => null);
  if (!answer?.ok || turn !== asking) return;
  const {results} = await answer.json(), taken = words(input.value), self = holderOf(input).dataset.key;
  list.replaceChildren(...results.filter(card => card.key !== self && !taken.includes(card.key)).map(card => {
    const row = document.createElement("li"), button = document.createElement("button");
    Object.assign(button, {type: "button", className: "btn ghost sm", textContent: `${card.key} ${card.title}`});
    button.dataset.take = card.key;
    row.append(button);
    return row;
  }));
}

/* Ticks a box of a task list in the text it stands for. */
async function tick(box, changed) {
  const holder = holderOf(box), source = holder.parentElement.querySelector('[data-edit="description"]'), on = box.checked;
  const lines = source.dataset.was.split("\n"), n = Number(box.dataset.task), marked = lines[n]?.replace(/\[[ xX]\]/, on ? "[x]" : "[ ]");
  if (marked === undefined || marked === lines[n]) return changed(holder.dataset.card);
  lines[n] = marked;
  const before = source.dataset.was, after = lines.join("\n");
  const label = on ? gettext("{key}: ticked", holder.dataset) : gettext("{key}: no longer ticked", holder.dataset);
  let by = {version: holder.dataset.version};
  const put = async text => { by = await patch(holder.dataset.card, {description: text}, by, label); };
  const renew = () => by.queued ? undefined : changed(holder.dataset.card);
  try {
    await put(after);
    if (by.queued) source.dataset.was = after;
    pushUndo({
      label,
      undo: async () => { await put(before); await renew(); },
      redo: async () => { await put(after); await renew(); },
    });
  } catch (refusal) {
    box.checked = !on;
    announce(refusal.status === 412 ? gettext("Somebody changed this card meanwhile; look again, then tick it.") : refusal.message, true);
  }
  await renew();
}

/* Makes the forms in `root` work; `changed(card)` renews what is shown. Call `ready` afterwards. */
export function editing(root, changed) {
  root.addEventListener("submit", event => {
    const form = event.target.closest("[data-edit]");
    if (!form) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    save(form, event.submitter?.name === "value" ? event.submitter.value : form.elements.value.value, changed);
  }, true);
  root.addEventListener("toggle", event => {
    const ed = event.target, form = ed.matches?.(".ed") && ed.querySelector("[data-edit]");
    if (!form || !ed.open) return;
    opened.set(form, {version: holderOf(form).dataset.version, was: form.dataset.was});
    problem(form, "");
    const field = form.querySelector("input.tx, textarea.tx, select.tx, [aria-current], button");
    field?.focus();
    field?.select?.();
  }, true);
  root.addEventListener("input", event => {
    const form = event.target.closest("[data-edit]");
    if (form) dirty.add(form);
    if (event.target.matches("[data-cards]")) find(event.target);
  });
  root.addEventListener("keydown", event => {
    const form = event.target.closest?.("[data-edit]");
    if (!form) return;
    if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); reset(form); shut(form); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    event.stopPropagation();
  });
  root.addEventListener("click", async event => {
    const button = event.target.closest("button"), form = button?.closest("[data-edit]");
    if (!form) return;
    const field = form.elements.value;
    if (button.dataset.shut !== undefined) { reset(form); shut(form); }
    else if (button.dataset.add !== undefined) { field.value = [...words(field.value), button.dataset.add].join(", "); field.focus(); }
    else if (button.dataset.take !== undefined) {
      field.value = [...words(field.value).slice(0, -1), button.dataset.take].join(", ") + ", ";
      form.querySelector("[data-found]").replaceChildren();
      field.focus();
    } else if (button.dataset.preview !== undefined || button.dataset.write !== undefined) show(form, button.dataset.preview !== undefined);
  });
  root.addEventListener("change", event => {
    if (event.target.matches("[data-description] [data-task]")) tick(event.target, changed);
  });
}

function reset(form) {
  form.reset();
  dirty.delete(form);
  problem(form, "");
}

/* Shows what was typed in a form as it will look, or the field again. */
export async function show(form, preview) {
  const shown = form.querySelector("[data-shown]"), field = form.elements.value ?? form.elements.text;
  if (preview) {
    const body = new FormData();
    body.set("text", field.value);
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    const answer = await fetch("/markdown", {method: "POST", headers: {"X-CSRFToken": token}, body}).catch(() => null);
    // Rendered and cleaned by the server, as it will be everywhere.
    if (answer?.ok) shown.innerHTML = await answer.text();
    else shown.textContent = gettext("The preview could not be loaded; try again.");
  }
  shown.hidden = !preview;
  field.hidden = preview;
  form.querySelector("[data-preview]").setAttribute("aria-pressed", preview);
  form.querySelector("[data-write]").setAttribute("aria-pressed", !preview);
}

/* After the page was made or renewed: boxes may be ticked by who may write, times are local. */
export function ready(root = document) {
  for (const box of root.querySelectorAll("[data-description] [data-task]")) {
    box.disabled = !holderOf(box)?.parentElement.querySelector('[data-edit="description"]');
    if (!box.labels?.length) box.setAttribute("aria-label", box.parentElement.textContent.trim().slice(0, 100));
  }
  for (const field of root.querySelectorAll("[data-instant]")) {
    if (!dirty.has(field.form)) field.value = field.defaultValue = local(field.dataset.instant);
  }
}
