/* Reviewing a difference: remarks on lines, by click or with the keys, split or unified, and what
   was viewed already. A remark is kept at once; the next worker is told until it is resolved. */
import {announce, call} from "./api.js";
import {gettext} from "./words.js";

const main = document.getElementById("main");
const here = () => main.dataset.card;
let changed = async () => {};

/* Where a line stands, as the server is told: the file of a checkpoint, or of what it came from. */
function spot(row, cell) {
  const region = row.closest("[data-lines]"), of = cell?.dataset.side ? cell : row.dataset.side ? row : row.querySelector('[data-side="new"], [data-side="old"]');
  if (!of?.dataset.n) return null;
  const old = of.dataset.side === "old";
  const where = old && region.dataset.old ? {checkpoint: Number(region.dataset.old), side: "new"} : {checkpoint: Number(region.dataset.new), side: old ? "base" : "new"};
  return {...where, path: region.dataset.file, line: Number(of.dataset.n)};
}

function write(row, cell) {
  const where = spot(row, cell);
  if (!where) return;
  main.querySelector("tr.writing")?.remove();
  const holder = document.createElement("tr"), field = document.createElement("td"), form = document.createElement("form");
  holder.className = "rem writing";
  field.colSpan = 4;
  form.className = "say";
  const name = gettext("Remark on line {line} of {path}", where);
  const text = Object.assign(document.createElement("textarea"), {className: "tx", name: "text", placeholder: gettext("What should the next worker change here? Markdown works.")});
  text.setAttribute("aria-label", name);
  text.dataset.most = 20000;
  const problem = Object.assign(document.createElement("p"), {className: "problem", hidden: true});
  problem.setAttribute("role", "alert");
  const button = (words, type, look) => Object.assign(document.createElement("button"), {className: `btn sm ${look}`, type, textContent: words});
  const bar = document.createElement("div"), no = button(gettext("Cancel"), "button", "");
  bar.className = "ch";
  bar.append(button(gettext("Add remark"), "submit", "primary"), no);
  form.append(text, problem, bar);
  field.append(form);
  holder.append(field);
  let after = row;
  while (after.nextElementSibling?.matches(".rem")) after = after.nextElementSibling;
  after.after(holder);
  const shut = () => { const region = holder.closest("[data-lines]"); holder.remove(); region?.focus({preventScroll: true}); };
  no.addEventListener("click", shut);
  form.addEventListener("keydown", event => {
    if (event.key === "Escape") shut();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    else { event.stopPropagation(); return; }
    event.preventDefault();
    event.stopPropagation();
  });
  form.addEventListener("submit", async event => {
    event.preventDefault();
    event.stopPropagation();
    if (!text.value.trim()) { text.focus(); return; }
    try {
      await call("POST", `/cards/${here()}/remarks`, {...where, text: text.value});
      shut();
      announce(gettext("Remark added on line {line}.", where));
      await changed();
    } catch (refusal) {
      problem.textContent = Object.values(refusal.errors ?? {})[0]?.[0] ?? refusal.message;
      problem.hidden = false;
    }
  });
  text.focus();
}

const numbers = of => [...of.querySelectorAll("td.ln")].map(cell => cell.textContent).join();

/* Before the page is made anew: what it returns is called afterwards, and has the line that keys are
   about be it again, and a half-written remark where it was. */
export function aside() {
  const back = [pointed(), unwritten()];
  return () => back.forEach(put => put());
}

function pointed() {
  const row = main.querySelector("[data-lines] tr.cur");
  if (!row) return () => {};
  const {file} = row.closest("[data-lines]").dataset, at = numbers(row);
  return () => {
    const now = [...main.querySelectorAll("[data-lines]")].find(other => other.dataset.file === file);
    if (now && !now.querySelector("tr.cur")) [...now.querySelectorAll("tr:not(.rem)")].find(other => numbers(other) === at)?.classList.add("cur");
  };
}

/* A remark is put back below its line, or at the end of its file where that line is gone. */
function unwritten() {
  const holder = main.querySelector("tr.writing"), region = holder?.closest("[data-lines]");
  if (!region) return () => {};
  let row = holder.previousElementSibling;
  while (row?.matches(".rem")) row = row.previousElementSibling;
  const {file} = region.dataset, at = row && numbers(row), text = holder.querySelector("textarea");
  const had = document.activeElement === text && [text.selectionStart, text.selectionEnd];
  holder.remove();
  return () => {
    const now = [...main.querySelectorAll("[data-lines]")].find(other => other.dataset.file === file) ?? main.querySelector("[data-lines]");
    if (!now) return;
    let after = [...now.querySelectorAll("tr:not(.rem)")].find(other => numbers(other) === at) ?? now.querySelector("tr:last-child");
    while (after.nextElementSibling?.matches(".rem")) after = after.nextElementSibling;
    after.after(holder);
    if (had) { text.focus({preventScroll: true}); text.setSelectionRange(...had); }
  };
}

/* The line that keys are about: arrows or J and K move it, Enter or C remarks on it. */
function step(region, by) {
  const rows = [...region.querySelectorAll("tr:not(.rem):not(.h)")], at = rows.indexOf(region.querySelector("tr.cur"));
  const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))];
  if (!next) return;
  region.querySelector("tr.cur")?.classList.remove("cur");
  next.classList.add("cur");
  next.scrollIntoView({block: "nearest"});
  const where = spot(next);
  announce(`${where?.line ?? ""} ${next.matches(".a") ? gettext("added") : next.matches(".x") ? gettext("deleted") : ""} ${next.lastElementChild.textContent}`.trim().slice(0, 300));
}

export function reviewing(renew) {
  changed = renew;
  main.addEventListener("click", async event => {
    const {target} = event, button = target.closest("button");
    if (button?.dataset.split !== undefined) {
      document.cookie = `split=${button.dataset.split}; path=/; max-age=31536000; samesite=lax`;
      await renew();
    } else if (button?.dataset.resolve) {
      const resolved = button.dataset.resolved === "true";
      try {
        await call("PATCH", `/cards/${here()}/remarks/${button.dataset.resolve}`, {resolved});
        announce(resolved ? gettext("Resolved.") : gettext("Open again."));
        await renew();
      } catch (refusal) { announce(refusal.message, true); }
    } else if (target.matches("[data-lines] td.ln") && main.querySelector("[data-may-write]")) {
      write(target.parentElement, target);
    }
  });
  main.addEventListener("keydown", event => {
    const region = event.target.matches?.("[data-lines]") ? event.target : null;
    if (!region || event.ctrlKey || event.metaKey || event.altKey) return;
    const current = region.querySelector("tr.cur");
    if (event.key === "ArrowDown" || event.key === "j") step(region, 1);
    else if (event.key === "ArrowUp" || event.key === "k") step(region, -1);
    else if ((event.key === "Enter" || event.key === "c") && current && main.querySelector("[data-may-write]")) write(current);
    else if (event.key === "n" || event.key === "p") {
      const all = [...main.querySelectorAll("[data-lines]")], next = all[all.indexOf(region) + (event.key === "n" ? 1 : -1)];
      next?.closest("details").setAttribute("open", "");
      next?.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  main.addEventListener("change", event => {
    const box = event.target.closest("[data-viewed]");
    if (!box) return;
    const name = `viewed:${here()}:${box.dataset.viewed}`;
    box.checked ? localStorage.setItem(name, "1") : localStorage.removeItem(name);
    if (box.checked) box.closest("details").open = false;
  });
  viewed();
}

/* What this browser's reader has seen of exactly these files. */
export function viewed() {
  for (const box of main.querySelectorAll("[data-viewed]")) {
    const seen = !!localStorage.getItem(`viewed:${here()}:${box.dataset.viewed}`);
    if (seen && !box.checked) box.closest("details").open = false;
    box.checked = seen;
  }
}
