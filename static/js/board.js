/* The board: everybody else's changes, live, and what is clicked on it. */
import {announce, answering, call, toast} from "./api.js";
import {connect} from "./live.js";
import {concerns, isRead, measure, refresh, rebudget, reheard, reread, retape} from "./board/cards.js";
import {fold, unfold} from "./board/columns.js";
import {quickAdd} from "./board/compose.js";
import {$, $$, board, columnOf, key, make, narrow, tabs} from "./board/dom.js";
import {equip, equipColumns} from "./board/drag.js";
import {feed} from "./board/feed.js";
import {returnFocus, rove} from "./board/keys.js";
import {openMenu} from "./board/menu.js";
import {refuse, sendEdit, showQueued} from "./board/moves.js";
import {meet, tellOpen} from "./board/presence.js";
import {queue} from "./board/queue.js";
import {carriedBy} from "./edit.js";
import {gettext, ngettext} from "./words.js";

board.addEventListener("click", async event => {
  const target = event.target.closest("button");
  if (!target) return;
  if (target.dataset.menu !== undefined) openMenu(target.closest(".card"), target);
  else if (target.dataset.quickAdd !== undefined) quickAdd(target);
  else if (target.dataset.fold !== undefined) fold(columnOf(target));
  else if (target.dataset.option !== undefined) {
    const form = $("[data-answer]", target.closest(".card"));
    form.elements.text.value = target.dataset.option;
    form.requestSubmit();
  }
});

board.addEventListener("submit", async event => {
  const form = event.target.closest("[data-answer]");
  if (!form) return;
  event.preventDefault();
  const card = form.closest(".card"), {text, reason} = form.elements, reply = form.closest("details");
  if (!text.value.trim()) { text.focus(); return; }
  try {
    await call("POST", `/cards/${card.dataset.card}/messages`, answering(text, reason, form.dataset.answer));
    text.value = "";
    if (reply) reply.open = false;
    announce(gettext("{key} answered.", card.dataset));
    await refresh([card.dataset.card]).catch(() => { /* its event brings it */ });
    $(".t", card).focus({preventScroll: true});
  } catch (refusal) {
    refuse([card], refusal.message);
  }
});

document.addEventListener("htmx:after:swap", () => {
  // A card that moved meanwhile came twice: the newer is right.
  const seen = new Map();
  for (const card of $$(".card", board)) {
    const twin = seen.get(card.id), newer = !twin || Number(card.dataset.version) > Number(twin.dataset.version);
    (newer ? twin : card)?.remove();
    if (newer) { seen.set(card.id, card); equip(card); }
  }
  equipColumns();
  measure();
  returnFocus();
  rove();
  reheard();
  retape();
});
document.addEventListener("htmx:response:error", () => toast(gettext("That could not be loaded; try again.")));

/* ---- live ------------------------------------------------------------------------------- */

const WORDS = {
  connecting: gettext("Connecting"), live: gettext("Live"), "catching-up": gettext("Catching up"),
  polling: gettext("Live, slowly"), offline: gettext("Offline"), "signed-out": gettext("Signed out"),
  gone: gettext("No longer a member"),
};

/* The strip above the board: since when it is not current, and how many changes wait. */
let kept = {state: "connecting"};
function tellKept() {
  const {state, since} = kept, n = queue.length, strip = document.getElementById("offline");
  const away = ["offline", "signed-out", "gone"].includes(state);
  strip.hidden = !away && !n;
  const wait = n ? ngettext("{n} change will be sent when you are back.", "{n} changes will be sent when you are back.", n) : "";
  const texts = {
    offline: gettext("Offline since {time}. The board shows what was true then and catches up by itself.", {time: since?.toLocaleTimeString()}),
    "signed-out": gettext("You are signed out. Reload the page to sign in again."),
    gone: gettext("This board is no longer yours to see."),
  };
  const text = away ? [texts[state], wait].filter(Boolean).join(" ") : ngettext("{n} change is being sent.", "{n} changes are being sent.", n);
  const line = $("span", strip);
  if (line.textContent !== text) line.textContent = text;
  $("button", strip)?.toggleAttribute("hidden", state !== "offline");
}

/* After a storm of changes every shown card is asked for once more: whatever was lost on the way
   between many answers at once is right again as soon as it is calm. */
const STORM = 40, CALM = 2500, QUIET = 15_000;
const lookAgain = cards => refresh(cards.map(card => card.dataset.card), live.cursor);
let stormy = 0, calm = 0;
function calmed(count) {
  stormy += count;
  clearTimeout(calm);
  calm = setTimeout(() => {
    const after = stormy >= STORM;
    stormy = 0;
    // While the server is away or has too much to do, later.
    if (after) lookAgain($$(".card", board)).catch(() => calmed(STORM));
  }, CALM + Math.random() * CALM);
}

const live = connect({
  board: key,
  after: board.dataset.cursor,
  async onEvents(events) {
    const working = events.some(event => event.kind.startsWith("step."));
    document.getElementById("live-seq").textContent = `· event ${events.at(-1).seq.toLocaleString()}`;
    // A step by itself changes only the tape, unless the card isn't shown as running yet.
    const structural = events.filter(e => (e.data.card || e.kind.startsWith("checkpoint.") || e.data.checkpoint) && !isRead(e));
    if (structural.length) await refresh(new Set(structural.filter(concerns).map(e => e.subject)), events.at(-1).seq);
    else if (working) retape();
    if (events.some(({kind, data}) => kind.startsWith("budget.") && data.of !== "card")) rebudget().catch(() => {});
    calmed(events.length);
  },
  onPresence: meet,
  onState({state, since}) {
    // What waits is sent after what was missed is shown.
    if (state === "live" || state === "polling") queue.away = false;
    else if (state !== "catching-up" && state !== "connecting") queue.away = true;
    kept = {state, since};
    document.getElementById("live-state").textContent = WORDS[state] ?? state;
    document.getElementById("live-dot").classList.toggle("pulse", state === "live");
    board.dataset.live = state;
    tellKept();
  },
  onResync: reread,
});
Object.assign(feed, {at: () => live.cursor, hold: () => live.hold(), release: () => live.release()});
queue.tell({changed: tellKept});
carriedBy(sendEdit);
tellOpen(card => live.looking(card));
const again = make("button", {className: "btn sm", type: "button", textContent: gettext("Retry now"), hidden: true});
again.addEventListener("click", () => live.retry());
document.getElementById("offline").append(again);
showQueued();
tellKept();

/* Which column a narrow screen shows, and the one it begins with. */
const sights = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (!isIntersecting || !narrow.matches) continue;
    tabs.forEach(tab => tab.removeAttribute("aria-current"));
    const tab = tabs.get(target.id);
    if (!tab) continue;
    tab.setAttribute("aria-current", "true");
    tab.parentElement.scrollTo({left: tab.offsetLeft - 80});
  }
}, {root: board, threshold: 0.6});
$$(".col", board).forEach(column => sights.observe(column));
if (narrow.matches && !location.hash) {
  const busy = $('.col[data-kind="in_progress"]:has(.card)', board) ?? (board.dataset.query && $(".col:has(.card)", board));
  if (busy) board.scrollTo({left: busy.offsetLeft - board.offsetLeft});
}
unfold();
rove();
retape();
setInterval(() => {
  const running = document.hidden ? [] : $$('.card[data-state="running"]', board);
  if (running.length) lookAgain(running).catch(() => {});
}, QUIET);
