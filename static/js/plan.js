/* Plans: written, asked for, reviewed item by item, and applied. */
import {announce, call, newKey, once, sentence, toast} from "./api.js";
import {renewed} from "./renewed.js";
import {gettext} from "./words.js";

const {goal, plan} = document.getElementById("main").dataset;
const listed = text => text.split(/[,\n]/).map(part => part.trim()).filter(Boolean);
const review = () => document.querySelector("[data-plan-review]");

/* Whether something of the review was changed here and is not saved. */
let dirty = false;

/* While it is, nothing is put in its place: the review says that there is something newer. */
function held() {
  if (dirty) review().querySelector("[data-newer]").hidden = false;
  return dirty;
}

const {main, soon} = renewed({
  concerns: ({subject, kind, data}) => subject === goal || data?.goal === goal || /^card\.(created|edited|deleted)$/.test(kind),
  held,
  gone: `/goals/${goal}/plans`,
});

/* What the review says is the server's again: its fields show what was saved. */
async function shownAfresh() {
  dirty = false;
  await soon();
  review()?.reset();
  const newer = main.querySelector("[data-newer]");
  if (newer) newer.hidden = true;
}

/* ---- refusals --------------------------------------------------------------------------- */

class Wrong extends Error {
  constructor(row, name, said) { super(said); Object.assign(this, {row, name}); }
}

/* The item and the field that a refusal is about, as far as it names any. */
function meant(refusal) {
  if (refusal instanceof Wrong) return refusal;
  const rows = main.querySelectorAll("[data-item]");
  for (const [name, said] of Object.entries(refusal.errors ?? {})) {
    const [, n, field] = name.match(/^items\[(\d+)\]\.?(\w*)/) ?? [];
    if (n !== undefined) return {row: rows[n], name: field, message: [said].flat().join(" ")};
    const at = name === "items" && Array.isArray(said) ? said.findIndex(one => one && typeof one === "object" && Object.keys(one).length) : -1;
    if (at >= 0) return {row: rows[at], name: Object.keys(said[at])[0], message: sentence({errors: said[at]})};
  }
  return {message: sentence(refusal)};
}

function refuse(form, refusal) {
  const {row, name, message} = meant(refusal), line = form.querySelector(".problem");
  const field = name && row?.querySelector(`.fields [name=${CSS.escape(name)}]`);
  const words = field?.closest("label").querySelector("span").textContent;
  line.textContent = field ? gettext("“{title}”, {field}: {said}", {title: row.querySelector("[name=title]").value, field: words, said: message}) : message;
  line.hidden = false;
  if (refusal.status === 412) form.querySelector("[data-newer]").hidden = false;
  if (field) {
    row.querySelector("details").open = true;
    field.setAttribute("aria-invalid", "true");
    field.focus();
  } else line.scrollIntoView({block: "nearest"});
  announce(line.textContent, true);
}

/* What was refused before stays until this is done: else the page would move under a second click. */
const tried = (form, work) => once(form, async () => {
  try {
    for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    await work();
    form.querySelector(".problem").hidden = true;
  } catch (refusal) { refuse(form, refusal); }
});

/* ---- the review ------------------------------------------------------------------------- */

function numbers(row) {
  const said = listed(row.querySelector("[name=covers]").value), bad = said.find(part => !/^\d{1,5}$/.test(part));
  if (bad !== undefined) throw new Wrong(row, "covers", gettext("“{text}” is no number; write the numbers of criteria, such as 1, 3.", {text: bad}));
  return said.map(Number);
}

function estimate(row) {
  const field = row.querySelector("[name=estimate]");
  if (!field.validity.valid) throw new Wrong(row, "estimate", gettext("must be a whole number from 0 to 1000."));
  return field.value === "" ? null : Number(field.value);
}

const accepted = row => row.querySelector("[name=accept]").checked;

/* What the review's items say by now, in their order. Those that are not accepted leave the plan
   when it is saved; when it is applied they stay in it as what was not taken. */
function items(applied) {
  return [...main.querySelectorAll("[data-item]")].map(row => {
    const item = JSON.parse(row.dataset.item), field = name => row.querySelector(`.fields [name=${name}]`);
    return {
      ...item,
      title: field("title").value, description: field("description").value,
      covers: numbers(row), labels: listed(field("labels").value),
      depends_on: field("depends_on").value.split("\n").map(part => part.trim()).filter(Boolean),
      estimate: estimate(row),
      dropped: !accepted(row) && (!applied || item.dropped),
    };
  });
}

async function save(applied) {
  const told = await call("PATCH", `/plans/${plan}`, {items: items(applied)}, {"If-Match": `"${main.dataset.version}"`});
  main.dataset.version = told.version;
}

async function apply(form) {
  const picked = name => [...form.querySelectorAll(`[name=${name}]:checked`)];
  const drop = picked("drop"), confirm = [...picked("confirm"), ...drop.filter(box => box.dataset.running !== undefined)];
  const accept = [...main.querySelectorAll("[data-item]")].filter(accepted).map(row => JSON.parse(row.dataset.item).ref);
  await save(true);
  const asked = {accept, drop: drop.map(box => box.value), confirm: confirm.map(box => box.value)};
  await call("POST", `/plans/${plan}/apply`, asked, {"Idempotency-Key": newKey(), "If-Match": `"${main.dataset.version}"`});
}

/* Done for good: the page shows what became of it, and whoever uses keys reads on there. */
async function over(said) {
  announce(said);
  toast(said, {seconds: 4});
  await shownAfresh();
  document.getElementById("plan").focus();
}

/* On the way to another page: until it is there, nothing here is done again. */
const leaving = href => { location.href = href; return new Promise(done => { setTimeout(done, 5000); }); };

function changed() { dirty = true; }
main.addEventListener("input", event => { if (event.target.closest("[data-item]")) changed(); });

main.addEventListener("click", event => {
  const button = event.target.closest("button"), form = button?.closest("[data-plan-review]");
  if (!form) return;
  const row = button.closest("[data-item]"), title = row?.querySelector("[name=title]").value;
  if (button.dataset.up !== undefined || button.dataset.down !== undefined) {
    const up = button.dataset.up !== undefined, other = up ? row.previousElementSibling : row.nextElementSibling;
    if (!other) return;
    if (up) other.before(row); else other.after(row);
    button.focus();
    changed();
    const all = [...row.parentElement.children];
    announce(gettext("{title}: place {n} of {all}", {title, n: all.indexOf(row) + 1, all: all.length}));
  } else if (button.dataset.save !== undefined) {
    tried(form, async () => {
      await save(false);
      announce(gettext("Saved."));
      toast(gettext("Saved."), {seconds: 4});
      await shownAfresh();
    });
  } else if (button.dataset.afresh !== undefined) {
    tried(form, async () => {
      await shownAfresh();
      document.getElementById("plan").focus();
    });
  } else if (button.dataset.discard !== undefined) {
    if (!button.dataset.sure) {
      // Twice, so that one slip throws nothing away.
      button.dataset.sure = "1";
      button.textContent = gettext("Discard it for good");
      return;
    }
    tried(form, async () => {
      await call("POST", `/plans/${plan}/discard`, {});
      await over(gettext("The plan is discarded."));
    });
  }
});

main.addEventListener("submit", event => {
  const form = event.target;
  if (form.matches("[data-plan-review]")) {
    event.preventDefault();
    tried(form, async () => {
      await apply(form);
      await over(gettext("The plan is applied."));
    });
  } else if (form.matches("[data-plan-new]")) {
    event.preventDefault();
    tried(form, async () => {
      const made = await call("POST", `/goals/${goal}/plans`, {markdown: form.elements.markdown.value}, {"Idempotency-Key": newKey()});
      await leaving(`/plans/${made.id}`);
    });
  } else if (form.matches("[data-plan-ask]")) {
    event.preventDefault();
    tried(form, async () => {
      const card = await call("POST", `/goals/${goal}/plans/ask`, {}, {"Idempotency-Key": newKey()});
      toast(gettext("{key} waits for an agent.", {key: card.key}));
      await leaving(`/cards/${card.key}`);
    });
  }
});
