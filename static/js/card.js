/* The card page: its parts renewed as events arrive, the running step's output as it comes. */
import {announce, answering, call, toast} from "./api.js";
import {connect} from "./live.js";
import {count} from "./lease.js";
import {ABOUT, settled} from "./discoveries.js";
import {mentions} from "./mention.js";
import {editing, ready, show} from "./edit.js";
import {grown, logs} from "./log.js";
import {walkable, walking} from "./lineage.js";
import {coloured} from "./terminal.js";
import {aside, reviewing, viewed} from "./review.js";
import {WORDS, anchored} from "./renewed.js";
import {pushUndo} from "./undo.js";
import "./unfold.js";
import {gettext} from "./words.js";

const main = document.getElementById("main");
const {card, key, board} = main.dataset;

let left = false;

/* To the board, for the card is gone. Who deletes it hears of that as an event as well: a second
   departure would break off the first. */
function leave() {
  if (left) return;
  left = true;
  location.href = `/boards/${board}`;
}

/* ---- renewing ---------------------------------------------------------------------------- */

/* Reads the page again and makes this one like it, node by node: what has focus, is open, selected
   or half typed stays as it is. */
async function renew() {
  const url = location.href, answer = await fetch(url);
  if (!answer.ok) { if (answer.status === 404) leave(); return; }
  let text = await answer.text();
  if (url !== location.href) return renew();
  const ask = document.getElementById("card-ask"), typed = ask?.querySelector("textarea")?.value;
  if (typed && !text.includes('id="card-ask"')) {
    // Answered by somebody else meanwhile; what was typed here is not taken away.
    const fresh = new DOMParser().parseFromString(text, "text/html");
    fresh.getElementById("card-lead").after(fresh.importNode(ask, true));
    text = fresh.getElementById("main").outerHTML;
  }
  const stay = anchored(main), back = aside();
  try {
    await htmx.swap({text, target: "#main", select: "#main", sourceElement: main, swap: "outerMorph"});
  } finally {
    back();
    stay();
  }
}

document.addEventListener("htmx:after:swap", () => {
  const select = main.querySelector("select[data-column]");
  if (select && select !== document.activeElement) select.value = select.querySelector("option[selected]").value;
  fresh();
});
editing(main, soon);
main.addEventListener("budget-saved", () => soon());
reviewing(soon);
mentions(main);
walking(main);
// A tab's beginning, not wherever the last one was scrolled to.
main.addEventListener("click", event => {
  if (!event.target.closest(".tabs a")) return;
  const body = main.querySelector(".doc .body"), tabs = document.getElementById("card-tabs");
  const top = tabs.offsetTop - body.offsetTop;
  document.addEventListener("htmx:after:swap", () => { if (body.scrollTop > top) body.scrollTop = top; }, {once: true});
});

/* ---- messages ---------------------------------------------------------------------------- */

/* What was said since somebody last looked here, as this browser remembers it. */
const SEEN = `seen-${card}`;
let since = Number(remembered());
function remembered() {
  try { return localStorage.getItem(SEEN) ?? 0; } catch { return 0; }
}
function sinceLast() {
  const talks = [...main.querySelectorAll(".thread .talk")];
  if (!talks.length) return;
  // Whoever comes for the first time has everything to read: only what comes later is new.
  since ||= Math.max(...talks.map(talk => Number(talk.dataset.newest)));
  const unread = talks.filter(talk => talk.dataset.newest > since);
  talks.forEach(talk => talk.classList.toggle("new", unread.includes(talk)));
  unread.forEach(talk => {
    if (talk.querySelector(".since-last")) return;
    talk.prepend(Object.assign(document.createElement("span"), {className: "pill run since-last", textContent: gettext("new")}));
  });
  if (new URL(location.href).searchParams.has("before")) return;
  const newest = Math.max(...talks.map(talk => Number(talk.dataset.newest)), since);
  try { localStorage.setItem(SEEN, newest); } catch { /* not kept in this browser: nothing is marked */ }
}

/* A result that holds terminal colours: they become the page's. */
function colour() {
  for (const out of main.querySelectorAll("pre[data-plain]")) {
    delete out.dataset.plain;
    for (const node of [...out.childNodes].filter(node => node.nodeType === 3 && node.textContent.includes("\x1b"))) node.replaceWith(coloured(node.textContent));
  }
}

/* What scripts add to the page as the server made it. */
function fresh() {
  colour();
  logs();
  ready();
  count();
  sinceLast();
  walkable();
  watch();
  const tabs = document.getElementById("card-tabs"), tab = tabs.querySelector("[aria-current]");
  if (tab && tab.offsetLeft + tab.offsetWidth > tabs.scrollLeft + tabs.offsetWidth) tabs.scrollLeft = tab.offsetLeft - 16;
}

/* A list that opens on a button goes when something is chosen, or by Escape, or beside it. */
function shut(event) {
  const open = main.querySelector("details.pick[open]");
  if (!open || (event.type === "keydown" && event.key !== "Escape")) return;
  if (event.type === "click" && open.contains(event.target) && !event.target.closest("a, .mi")) return;
  open.open = false;
  if (event.type === "keydown") open.querySelector("summary").focus();
}
document.addEventListener("click", shut);
document.addEventListener("keydown", shut);

let renewing = false, again = false;
async function soon() {
  if (renewing) { again = true; return; }
  renewing = true;
  try { await renew(); } finally {
    renewing = false;
    if (again) { again = false; later(150); }
  }
}
// Until it has worked: nobody else will ask for what this was to show.
const later = ms => setTimeout(() => soon().catch(() => later(2000)), ms);

/* ---- following ---------------------------------------------------------------------------- */

/* A pill leads to the running step; having been there, the page stays with it until it is
   scrolled up. */
let following = false, seen;
const sight = new IntersectionObserver(([entry]) => {
  const pill = main.querySelector(".jump");
  if (pill) pill.hidden = entry.isIntersecting || !entry.target.isConnected;
});
function watch() {
  const live = main.querySelector(".step.live"), pill = main.querySelector(".jump");
  if (live !== seen) {
    if (seen) sight.unobserve(seen);
    if (live) sight.observe(live);
    seen = live;
  }
  if (!live && pill) pill.hidden = true;
  if (following && live) live.scrollIntoView({block: "nearest"});
}
main.addEventListener("holdfast:grown", () => { if (following) watch(); });
main.addEventListener("wheel", event => { if (event.deltaY < 0) following = false; }, {passive: true});
main.addEventListener("touchmove", () => { following = false; }, {passive: true});

/* ---- doing ------------------------------------------------------------------------------- */

async function act(what, path, body = {}, of = card) {
  try {
    await call("POST", `/cards/${of}${path}`, body);
    announce(what);
    await soon();
  } catch (refusal) {
    announce(refusal.message, true);
    toast(refusal.message);
    throw refusal;
  }
}

/* Tells a message, decision or discovery to every worker, or no longer; can be taken back. */
async function pin(path, on) {
  const put = async pinned => { await call("PATCH", path, {pinned}); await soon(); };
  try {
    await put(on);
    const label = on ? gettext("Pinned: every worker is told it.") : gettext("Unpinned.");
    announce(label);
    pushUndo({label, undo: () => put(!on), redo: () => put(on)});
  } catch (refusal) {
    announce(refusal.message, true);
    toast(refusal.message);
  }
}

async function copy(what) {
  const text = what === "key" ? key : new URL(`/cards/${key}`, location.href).href;
  try {
    await navigator.clipboard.writeText(text);
    toast(gettext("Copied: {text}", {text}));
    announce(gettext("Copied: {text}", {text}));
  } catch {
    toast(gettext("The browser keeps pages from copying; here it is: {text}", {text}));
  }
}

/* What a new card takes over from another one. */
const TAKEN = ["description", "priority", "goal", "labels", "requires", "workflow", "inputs", "max_attempts", "review_required", "due_at", "estimate", "covers", "budgets"];
async function duplicate() {
  try {
    const answer = await fetch(`/api/v1/cards/${card}`), was = await answer.json();
    const taken = Object.fromEntries(TAKEN.filter(name => was[name] != null).map(name => [name, was[name]]));
    const title = gettext("{title} (copy)", {title: was.title}).slice(0, 300);
    const made = await call("POST", "/cards", {...taken, board, title, column: "backlog"});
    location.href = `/cards/${made.key}`;
  } catch (refusal) {
    announce(refusal.message, true);
    toast(refusal.message);
  }
}

main.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  const {steer, option} = button.dataset;
  if (steer) act(`${key}: ${steer}`, `/${steer}`).catch(() => {});
  else if (button.dataset.choose) act(gettext("{key} won the race.", {key: button.dataset.choose}), "/choose", {}, button.dataset.choose).catch(() => {});
  else if (button.dataset.start !== undefined) act(gettext("{key} started", {key}), "/move", {column: "in_progress"}).catch(() => {});
  else if (button.dataset.dialog) document.getElementById(button.dataset.dialog).showModal();
  else if (button.dataset.reject !== undefined) document.getElementById("reject").showModal();
  else if (button.dataset.pin) pin(button.dataset.pin, button.getAttribute("aria-pressed") !== "true");
  else if (button.dataset.copy) copy(button.dataset.copy);
  else if (button.dataset.duplicate !== undefined) duplicate();
  else if (button.form?.matches("[data-say]") && (button.dataset.preview ?? button.dataset.write) !== undefined) show(button.form, button.dataset.preview !== undefined);
  else if (button.dataset.jump !== undefined) { following = true; watch(); }
  else if (button.dataset.close !== undefined) button.closest("dialog").close();
  else if (option !== undefined) {
    button.form.elements.text.value = option;
    button.form.requestSubmit();
  }
});

main.addEventListener("change", event => {
  if (event.target.id === "fork-choose") {
    for (const terms of event.target.form.querySelectorAll("[data-terms]")) terms.hidden = terms.dataset.terms !== event.target.value;
  }
  if (event.target.matches("[data-column]")) {
    const select = event.target;
    select.blur();
    act(gettext("{key} moved to {name}", {key, name: select.selectedOptions[0].textContent}), "/move", {column: select.value}).catch(() => later(0));
  }
});

// What was asked for when others turned out to have changed the same lines.
let conflicted = null;

main.addEventListener("submit", async event => {
  const form = event.target;
  let asked = null;
  event.preventDefault();
  const problem = form.querySelector(".problem");
  problem.hidden = true;
  try {
    if (form.matches("[data-say]")) {
      const text = form.elements.text.value;
      if (!text.trim()) { form.elements.text.focus(); return; }
      const body = {text};
      if (form.dataset.answers) Object.assign(body, answering(form.elements.text, form.elements.reason, form.dataset.answers));
      if (form.dataset.pinned !== undefined) body.pinned = true;
      await call("POST", `/cards/${card}/messages`, body);
      form.elements.text.value = "";
      if (form.elements.text.hidden) show(form, false);
      announce(gettext("Posted."));
    } else if (form.matches(ABOUT)) {
      announce(await settled(form, event.submitter));
    } else if (form.dataset.delete !== undefined) {
      await call("DELETE", `/cards/${card}`);
      return leave();
    } else if (form.dataset.rewind) {
      await call("POST", `/cards/${card}/rewind`, {checkpoint: Number(form.dataset.rewind)});
      form.closest("dialog").close();
      announce(gettext("{key} goes on from checkpoint {number}.", {key, number: form.dataset.rewind}));
    } else if (form.dataset.name) {
      await call("PATCH", `/cards/${card}/checkpoints/${form.dataset.name}`, {tag: form.elements.tag.value});
      form.closest("dialog").close();
      announce(gettext("Saved."));
    } else if (form.dataset.adopt) {
      const {number} = await call("POST", `/cards/${card}/salvages/${form.dataset.adopt}/adopt`, {next_step: form.elements.next_step.value});
      form.closest("dialog").close();
      announce(gettext("{key} goes on from checkpoint {number}.", {key, number}));
    } else if (form.dataset.approve) {
      const {strategy, into, message, with_secrets: withSecrets} = form.elements;
      asked = {strategy: strategy.value, into: into.value, message: message.value, checkpoint: Number(form.dataset.approve)};
      if (withSecrets?.checked) asked.with_secrets = true;
      const told = strategy.value
        ? await call("POST", `/cards/${card}/merge`, asked)
        : await call("POST", `/cards/${card}/approve`, {});
      form.closest("dialog").close();
      toast(told.commit ? gettext("{key} approved: {branch} is at {commit}", {key, branch: told.into || told.branch, commit: told.commit.slice(0, 12)}) : gettext("{key} approved", {key}));
    } else if (form.dataset.splitCard) {
      const parts = form.elements.parts.value.split("\n").map(line => line.trim()).filter(Boolean);
      const made = await call("POST", `/cards/${card}/split`, {checkpoint: Number(form.dataset.splitCard), parts: parts.map(title => ({title}))});
      form.closest("dialog").close();
      toast(gettext("Split into {keys}", {keys: made.parts.map(part => part.key).join(", ")}));
    } else if (form.dataset.fork) {
      const approaches = form.elements.approaches.value.split("\n").map(line => line.trim()).filter(Boolean);
      const body = {checkpoint: Number(form.dataset.fork), title: form.elements.title.value};
      if (approaches.length) body.approaches = approaches;
      const {choose, score, deadline} = form.elements;
      if (approaches.length > 1) body.choose = choose.value;
      if (body.choose === "score") {
        body.score = score.value;
        if (deadline.value) body.deadline_seconds = 60 * Number(deadline.value);
      }
      const {cards} = await call("POST", `/cards/${card}/fork`, body);
      form.closest("dialog").close();
      toast(gettext("Forked: {keys}", {keys: cards.map(fork => fork.key).join(", ")}));
    } else {
      const reason = form.elements.reason.value;
      if (conflicted) await call("POST", `/cards/${card}/merge`, {...conflicted, reason, on_conflict: "send_back"});
      else await call("POST", `/cards/${card}/reject`, {reason});
      conflicted = null;
      form.closest("dialog").close();
    }
    await soon();
  } catch (refusal) {
    problem.textContent = refusal.message;
    problem.hidden = false;
    // What both sides changed is what the next worker is to mend.
    const reason = document.getElementById("reason");
    if (refusal.code === "merge_conflict" && reason && !reason.value) {
      reason.value = gettext("Bring it up to date: others changed the same lines of {files}.", {files: (refusal.files ?? []).slice(0, 20).join(", ")});
    }
    if (refusal.code === "merge_conflict") conflicted = asked;
  }
});

/* ---- live -------------------------------------------------------------------------------- */

connect({
  board,
  after: main.dataset.cursor,
  async onEvents(events) {
    const also = [...main.querySelectorAll("[data-also]")].flatMap(section => section.dataset.also.split(" "));
    if (events.some(event => event.subject !== card && event.kind !== "log.appended" && also.includes(event.subject))) later(150);
    const mine = events.filter(event => event.subject === card);
    if (mine.some(event => event.kind === "card.deleted")) return leave();
    const printed = mine.filter(event => event.kind === "log.appended");
    if (printed.length) grown(printed.map(event => event.data));
    if (mine.length > printed.length) await soon();
  },
  onState({state}) {
    document.getElementById("live-state").textContent = WORDS[state] ?? state;
    document.getElementById("live-dot").classList.toggle("pulse", state === "live");
    main.dataset.live = state;
  },
  onResync: soon,
});
// A lease that lapses is no event: a page left open finds out by looking.
setInterval(() => { if (!document.hidden && main.querySelector(".step.live, .pill.run, .pill.fail")) { later(0); grown(); } }, 15_000);
fresh();
document.querySelector(":target")?.scrollIntoView({block: "center"});
