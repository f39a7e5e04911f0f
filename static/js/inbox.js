/* The inbox: every row is answered, decided, put off or done with where it stands. */
import {announce, answering, call, toast} from "./api.js";
import {ask, retitle} from "./bell.js";
import {gettext} from "./words.js";

const main = document.getElementById("main");
const rows = () => [...main.querySelectorAll("[data-notice]")];
const now = () => document.activeElement.closest?.("[data-notice]");
let busy = 0;

/* The page anew in place: what is half typed, and the focus, stay. */
async function refresh() {
  if (busy) return;
  const here = now(), at = here ? rows().indexOf(here) : -1, id = here?.id;
  await htmx.ajax("GET", location.href, {target: "#inbox", select: "#inbox", swap: "outerMorph"});
  retitle();
  if (id && !document.getElementById(id) && document.activeElement === document.body) focusRow(at);
}

function focusRow(at) {
  const all = rows(), row = all[Math.min(Math.max(at, 0), all.length - 1)];
  if (!row) return document.getElementById("inbox")?.focus();
  row.focus();
  row.scrollIntoView({block: "nearest"});
}

/* Does what the row is for and takes it away; put back, with the reason, where it is refused. */
async function settle(row, work, said, undo) {
  const at = rows().indexOf(row);
  busy += 1;
  row.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    row.removeAttribute("aria-busy");
    const problem = row.querySelector("[data-problem]");
    problem.textContent = error.message;
    problem.hidden = false;
    announce(error.message, true);
    return;
  } finally {
    busy -= 1;
  }
  const had = row.contains(document.activeElement) || document.activeElement === document.body;
  const group = row.closest("section");
  row.remove();
  const left = group.querySelectorAll("[data-notice]").length;
  if (left) group.querySelector("[data-n]").textContent = left;
  else group.remove();
  if (had) focusRow(at);
  announce(said);
  toast(said, undo ? {action: undo, label: gettext("Undo"), key: "Z"} : {});
  if (!rows().length) await refresh();
  ask();
}

const path = row => `/inbox/${row.dataset.notice}`;
const key = row => row.dataset.key;

function mark(row, changes, back, said) {
  const undo = async () => { await call("PATCH", path(row), back); await refresh(); ask(); };
  last = undo;
  return settle(row, () => call("PATCH", path(row), changes), said, undo);
}
let last;

/* Files may hold a secret of the board: whoever approves is told first, whatever the row showed so far. */
async function approve(row) {
  const held = row.querySelector("[data-spills]");
  if (held) {
    await htmx.ajax("GET", held.getAttribute("hx-get"), {target: held});
    const told = held.querySelector(".strip");
    if (told) { told.focus(); return announce(told.textContent, true); }
  }
  return acts.approved(row);
}

const acts = {
  approve,
  approved: row => settle(row, () => call("POST", `/cards/${key(row)}/approve`, {}), gettext("{key} approved.", {key: key(row)})),
  retry: row => settle(row, () => call("POST", `/cards/${key(row)}/retry`, {}), gettext("{key} goes on.", {key: key(row)})),
  done: row => mark(row, {done: true}, {done: false}, gettext("Done with {key}.", {key: key(row)})),
  read: async row => {
    const read = row.hasAttribute("data-unread");
    await call("PATCH", path(row), {read});
    row.toggleAttribute("data-unread", !read);
    const button = row.querySelector("[data-act=read]");
    button.textContent = read ? gettext("Mark unread") : gettext("Mark read");
    row.querySelector("[data-dot]").hidden = read;
    announce(read ? gettext("Marked read.") : gettext("Marked unread."));
  },
  back: row => open(row, "details[data-back]"),
  answer: row => open(row, "details[data-reply]"),
  snooze: row => open(row, "details[data-snooze]"),
};

function open(row, which) {
  const box = row.querySelector(which);
  if (!box) return row.querySelector("[name=reason], [data-option]")?.focus();
  box.open = true;
  box.querySelector("textarea, button, input")?.focus();
}

const answer = (row, text) => settle(
  row,
  () => call("POST", `/cards/${key(row)}/messages`, answering({value: text}, row.querySelector("[name=reason]"), row.dataset.message)),
  gettext("{key} answered.", {key: key(row)}),
);

function until(when) {
  const at = new Date();
  if (when === "hour") at.setHours(at.getHours() + 1);
  else {
    at.setHours(9, 0, 0, 0);
    at.setDate(at.getDate() + (when === "week" ? ((8 - at.getDay()) % 7 || 7) : 1));
  }
  return at;
}

function snooze(row, at) {
  return mark(row, {snoozed_until_at: at.toISOString()}, {snoozed_until_at: null},
    gettext("{key} is back {when}.", {key: key(row), when: at.toLocaleString(document.documentElement.lang, {weekday: "short", hour: "2-digit", minute: "2-digit"})}));
}

main.addEventListener("click", async event => {
  const button = event.target.closest("button"), row = event.target.closest("[data-notice]");
  const wake = event.target.closest("[data-wake]");
  if (wake) {
    await call("PATCH", `/inbox/${wake.dataset.wake}`, {snoozed_until_at: null}).catch(error => toast(error.message));
    await refresh();
    return ask();
  }
  if (row && event.target.closest("a[data-open]") && row.hasAttribute("data-unread")) acts.read(row).catch(() => {});
  if (!row || !button || row.getAttribute("aria-busy")) return;
  if (button.dataset.option !== undefined) answer(row, button.dataset.option);
  else if (button.dataset.act) Promise.resolve(acts[button.dataset.act](row)).catch(error => toast(error.message));
  else if (button.dataset.until) snooze(row, until(button.dataset.until));
});

main.addEventListener("submit", event => {
  const form = event.target, row = form.closest("[data-notice]");
  if (!row) return;
  event.preventDefault();
  const field = form.elements.text, text = field.value.trim();
  if (form.dataset.form === "until") {
    const at = new Date(form.elements.at.value);
    if (Number.isNaN(+at)) return form.elements.at.focus();
    return snooze(row, at);
  }
  if (!text) return field.focus();
  if (form.dataset.form === "answer") return answer(row, text);
  if (form.dataset.form === "back") {
    return settle(row, () => call("POST", `/cards/${key(row)}/reject`, {reason: text}), gettext("{key} sent back.", {key: key(row)}));
  }
  return settle(row, async () => {
    await call("POST", `/cards/${key(row)}/messages`, {text});
    await call("PATCH", path(row), {done: true});
  }, gettext("Replied on {key}.", {key: key(row)}));
});

const single = () => localStorage.getItem("single-keys") !== "off";
const KEYS = {a: "approve", d: "back", e: "done", r: "read", s: "snooze"};

addEventListener("keydown", event => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape") {
    const box = event.target.closest?.("[data-notice] details[open]");
    if (box) { box.open = false; box.closest("[data-notice]").focus(); event.preventDefault(); }
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !single()) return;
  if (document.querySelector("dialog[open]")) return;
  const row = now(), all = rows(), pressed = event.key.toLowerCase();
  if (pressed === "j" || pressed === "k") focusRow(row ? all.indexOf(row) + (pressed === "j" ? 1 : -1) : 0);
  else if (pressed === "z" && last) { last(); last = undefined; }
  else if (!row) return;
  else if (event.key === "Enter" && event.target === row) row.querySelector("a[data-open]").click();
  else if (/^[1-9]$/.test(event.key)) row.querySelectorAll("[data-option]")[event.key - 1]?.click();
  else if (KEYS[pressed]) {
    const act = KEYS[pressed] === "back" && row.dataset.kind !== "review" ? "answer" : KEYS[pressed];
    if (act === "approve" && row.dataset.kind !== "review") return;
    if (!row.getAttribute("aria-busy")) Promise.resolve(acts[act](row)).catch(error => toast(error.message));
  } else return;
  event.preventDefault();
});

document.addEventListener("inbox", refresh);
