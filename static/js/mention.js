/* Names after an @ while somebody types: a list below the field, walked by arrows or tapped.
 *
 * <textarea data-mentions="ID"> takes the names from <datalist id="ID">.
 */
import {announce} from "./api.js";
import {gettext, ngettext} from "./words.js";

const MOST = 6;
let list = null, field = null, at = 0;

const typed = box => /(?:^|[\s(])@([\w.+-]*)$/.exec(box.value.slice(0, box.selectionStart));

function found(box) {
  const begun = typed(box), names = document.getElementById(box.dataset.mentions);
  if (!begun || !names) return [];
  const word = begun[1].toLowerCase();
  const all = [...names.options].map(option => option.value).filter(name => /^[\w.+-]+$/.test(name));
  const first = all.filter(name => name.toLowerCase().startsWith(word));
  return [...first, ...all.filter(name => !first.includes(name) && name.toLowerCase().includes(word))].slice(0, MOST);
}

function shut() {
  list?.remove();
  for (const name of ["aria-controls", "aria-activedescendant", "aria-autocomplete"]) field?.removeAttribute(name);
  list = field = null;
}

function point(to) {
  const rows = [...list.children];
  at = (to + rows.length) % rows.length;
  rows.forEach((row, n) => row.setAttribute("aria-selected", n === at));
  field.setAttribute("aria-activedescendant", rows[at].id);
}

function take(name) {
  const box = field, end = box.selectionStart, start = end - typed(box)[1].length;
  shut();
  box.setRangeText(`${name} `, start, end, "end");
  box.focus();
  box.dispatchEvent(new Event("input", {bubbles: true}));
}

function offer(box) {
  const names = found(box);
  if (!names.length) return shut();
  const fresh = !list;
  if (field && field !== box) shut();
  field = box;
  if (!list) {
    list = Object.assign(document.createElement("ul"), {className: "menu names", id: "names-found"});
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", gettext("Names"));
    box.after(list);
  }
  list.replaceChildren(...names.map((name, n) => {
    const row = Object.assign(document.createElement("li"), {className: "mi", id: `name-${n}`, textContent: `@${name}`});
    row.setAttribute("role", "option");
    row.dataset.name = name;
    return row;
  }));
  box.setAttribute("aria-autocomplete", "list");
  box.setAttribute("aria-controls", list.id);
  point(0);
  if (fresh) announce(ngettext("{n} name", "{n} names", names.length));
}

/* Makes every field below `root` that wants names offer them. */
export function mentions(root) {
  root.addEventListener("input", event => { if (event.target.matches("[data-mentions]")) offer(event.target); });
  root.addEventListener("keydown", event => {
    if (!list || event.target !== field) return;
    const {key} = event;
    if (key === "ArrowDown" || key === "ArrowUp") point(at + (key === "ArrowDown" ? 1 : -1));
    else if ((key === "Enter" && !event.ctrlKey && !event.metaKey) || key === "Tab") take(list.children[at].dataset.name);
    else if (key === "Escape") shut();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  // Before the field loses focus to what was tapped.
  root.addEventListener("pointerdown", event => {
    const row = event.target.closest?.(".names [data-name]");
    if (!row) return;
    event.preventDefault();
    take(row.dataset.name);
  });
  root.addEventListener("focusout", event => { if (event.target === field) shut(); });
}
