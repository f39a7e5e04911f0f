/* The cards as a table: kept current, read on, and walked by keys. */
import {feed} from "./board/feed.js";
import {connect} from "./live.js";
import {go} from "./views.js";
import {gettext} from "./words.js";

const table = document.getElementById("board"), key = table.dataset.board;
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const REREAD = 1500;

const WORDS = {
  connecting: gettext("Connecting"), live: gettext("Live"), "catching-up": gettext("Catching up"),
  polling: gettext("Live, slowly"), offline: gettext("Offline"), "signed-out": gettext("Signed out"),
  gone: gettext("No longer a member"),
};

let due = 0;
function reread() {
  due ||= setTimeout(async () => {
    due = 0;
    // Rows that were read on stay; they are as they were then.
    if (!table.dataset.readOn && !document.hidden) await go(location.href, {quiet: true});
  }, REREAD);
}

const live = connect({
  board: key,
  after: table.dataset.cursor,
  onEvents(events) {
    document.getElementById("live-seq").textContent = `· event ${events.at(-1).seq.toLocaleString()}`;
    reread();
  },
  onState({state}) {
    document.getElementById("live-state").textContent = WORDS[state] ?? state;
    document.getElementById("live-dot").classList.toggle("pulse", state === "live");
    table.dataset.live = state;
  },
  onResync: reread,
});
feed.at = () => live.cursor;

table.addEventListener("click", async event => {
  const button = event.target.closest("[data-more-rows]");
  if (!button) return;
  const row = button.closest("tr"), last = row.previousElementSibling;
  button.disabled = true;
  const query = table.dataset.query ? `&${table.dataset.query}` : "";
  const answer = await fetch(`/boards/${key}/rows?place=${last.dataset.place}${query}`).catch(() => null);
  button.disabled = false;
  if (!answer?.ok) { button.textContent = gettext("That could not be loaded; try again."); return; }
  const holder = document.createElement("template");
  holder.innerHTML = `<table><tbody>${await answer.text()}</tbody></table>`;
  const rows = $$("tr", holder.content);
  table.dataset.readOn = "1";
  row.replaceWith(...rows);
  rows[0]?.querySelector("a")?.focus();
});

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  if (document.querySelector("dialog[open], :popover-open") || localStorage.getItem("single-keys") === "off") return;
  const links = $$("tbody .t", table), at = links.indexOf(document.activeElement);
  const keys = {
    j: () => links[at + 1]?.focus(),
    k: () => links[Math.max(0, at - 1)]?.focus(),
    f: () => document.querySelector("[data-filter-open]")?.click(),
    "/": () => document.getElementById("q")?.focus(),
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
