/* An import: what would be made is shown first, then made in one go. */
import {announce, call, newKey} from "./api.js";
import {gettext, ngettext} from "./words.js";

const form = document.getElementById("import"), planned = document.getElementById("planned");
const problem = form.querySelector(".problem"), path = `/boards/${form.dataset.board}/import`;
const KINDS = {backlog: gettext("Backlog"), in_progress: gettext("In progress"), blocked: gettext("Blocked"), review: gettext("Review"), completed: gettext("Completed")};
const PRIORITIES = [gettext("Urgent"), gettext("High"), gettext("Medium"), gettext("Low"), gettext("None")];
let shown = null;

function make(tag, fields = {}, ...inside) {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...inside);
  return node;
}

async function read() {
  const chosen = [...form.elements.files.files], text = form.elements.text.value;
  const files = await Promise.all(chosen.map(async file => ({name: file.webkitRelativePath || file.name, text: await file.text()})));
  if (text.trim()) files.unshift({name: gettext("pasted"), text});
  return {files, format: form.elements.format.value};
}

function refuse(refusal) {
  problem.textContent = Object.values(refusal.errors ?? {}).flat(3).map(said => typeof said === "string" ? said : JSON.stringify(said)).join(" ") || refusal.message;
  problem.hidden = false;
  announce(problem.textContent, true);
}

async function ask(body, headers = {}) {
  problem.hidden = true;
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  try { return await call("POST", path, body, headers); }
  catch (refusal) { refuse(refusal); }
  finally { for (const button of form.querySelectorAll("button")) button.disabled = false; }
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  if ([...form.elements.files.files].some(file => file.name.endsWith(".tar"))) { refuse({message: gettext("That is a bundle: choose it under “A bundle”, below.")}); document.querySelector("#bundle input[type=file]")?.focus(); return; }
  const source = await read();
  if (!source.files.length) { refuse({message: gettext("Paste a plan or choose a file first.")}); form.elements.text.focus(); return; }
  const told = await ask({...source, dry_run: true});
  if (told) show(source, told);
});
for (const type of ["input", "change"]) form.addEventListener(type, () => { planned.hidden = true; shown = null; });

function show(source, told) {
  shown = {source, key: newKey()};
  const fresh = told.cards.filter(card => !card.there), titles = new Map(told.cards.map(card => [card.ref, card.title]));
  const count = ngettext("{n} card would be made", "{n} cards would be made", fresh.length);
  const old = told.cards.length - fresh.length;
  const rows = told.cards.map(card => {
    const needs = card.depends_on.map(ref => titles.get(ref) ?? ref).join(", ");
    return make("tr", {className: card.there ? "there" : ""}, make("td", {}, card.title, card.there ? ` (${gettext("there already")})` : ""), make("td", {}, KINDS[card.kind] ?? card.kind),
      make("td", {}, PRIORITIES[card.priority]), make("td", {}, card.goal ?? ""), make("td", {}, needs));
  });
  const head = make("tr", {}, ...[gettext("Title"), gettext("Column"), gettext("Priority"), gettext("Goal"), gettext("Waits for")].map(words => make("th", {scope: "col"}, words)));
  const said = [...told.problems, ...told.warnings];
  const go = make("button", {className: "btn primary", type: "button", disabled: !fresh.length}, told.problems.length ? gettext("Make them, leaving that out") : ngettext("Make {n} card", "Make {n} cards", fresh.length));
  go.addEventListener("click", () => carryOut(!!told.problems.length));
  planned.replaceChildren(make("h2", {}, old ? `${count}; ${ngettext("{n} is there already", "{n} are there already", old)}` : count),
    ...(said.length ? [make("ul", {className: "told2"}, ...said.map(sentence => make("li", {}, sentence)))] : []),
    make("div", {className: "planwrap", tabIndex: 0, role: "region", ariaLabel: gettext("What would be made")}, make("table", {className: "planned"}, make("thead", {}, head), make("tbody", {}, ...rows))),
    make("div", {className: "row"}, go));
  planned.hidden = false;
  planned.focus();
  planned.scrollIntoView({block: "nearest"});
}

async function carryOut(keepGoing) {
  if (!shown) return;
  const done = await ask({...shown.source, keep_going: keepGoing}, {"Idempotency-Key": shown.key});
  if (!done) return;
  const made = done.cards.filter(card => !card.there).length;
  const text = ngettext("{n} card was made.", "{n} cards were made.", made);
  announce(text);
  planned.replaceChildren(make("h2", {}, text), make("div", {className: "row"}, make("a", {className: "btn primary", href: form.dataset.home}, gettext("Go to the board"))));
  planned.querySelector("a").focus();
  form.elements.text.value = form.elements.files.value = "";
}

/* Files can be dropped anywhere on the form. */
form.addEventListener("dragover", event => { if (event.dataTransfer.types.includes("Files")) { event.preventDefault(); form.classList.add("dropping"); } });
form.addEventListener("dragleave", () => form.classList.remove("dropping"));
form.addEventListener("drop", event => {
  form.classList.remove("dropping");
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  form.elements.files.files = event.dataTransfer.files;
  form.requestSubmit();
});
