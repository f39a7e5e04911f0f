/* How much the inbox holds, on every page: beside its link, in the title, and as notifications.
 *
 * It asks every half minute while the page is seen, and soon after something happened on the
 * board that is shown. Of all hidden pages one alone goes on asking, where notifications are
 * allowed; it holds a lock, which the browser hands on when the page goes.
 */
import {gettext} from "./words.js";

const EVERY = 30_000, SOON = 3_000, TOLD = "inbox-told";
const link = document.querySelector("[data-bell]"), spots = document.querySelectorAll("[data-waiting]"), title = document.title.replace(/^\(\d+\+?\) /, "");
let timer, due = 0, asking = false, leads = false, shown = spots[0]?.textContent.trim() ?? "";

const may = () => "Notification" in window && Notification.permission === "granted";

/* Puts the count before the title, which a swap of the page's content may have set anew. */
export function retitle() {
  document.title = shown ? `(${shown}) ${title}` : title;
}

function show(count) {
  const text = count > 99 ? "99+" : count ? String(count) : "";
  if (text === shown) return;
  shown = text;
  retitle();
  for (const spot of spots) {
    spot.classList.toggle("hot", count > 0);
    spot.textContent = text;
    if (text) spot.append(Object.assign(document.createElement("span"), {className: "sr", textContent: ` ${gettext("open")}`}));
  }
  document.dispatchEvent(new CustomEvent("inbox", {detail: count}));
}

export async function ask() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  try {
    const told = leads && may() ? `?after=${localStorage.getItem(TOLD) ?? ""}` : "";
    const answer = await fetch(link.dataset.bell + told, {headers: {Accept: "application/json"}});
    if (answer.status === 401) return;
    if (answer.ok) {
      const body = await answer.json();
      show(body.count);
      if (body.newest) localStorage.setItem(TOLD, body.newest);
      if (document.hidden) body.news?.forEach(pop);
    }
  } catch { /* the server is away; the board says so */ }
  asking = false;
  later(EVERY);
}

function pop({id, title, body, href}) {
  // The tag keeps a second page from showing the same one again.
  const note = new Notification(title, {body, tag: id, icon: "/static/mark.svg"});
  note.onclick = () => { window.focus(); location.href = href; note.close(); };
}

function later(wait) {
  clearTimeout(timer);
  due = performance.now() + wait;
  if (!document.hidden || (leads && may())) timer = setTimeout(ask, wait);
}

/* On a board where something happens all the time the next event must not put it off. */
function soon() {
  if (performance.now() + SOON < due) later(SOON);
}

if (link) {
  shown = shown.match(/^\d+\+?/)?.[0] ?? "";
  retitle();
  navigator.locks?.request("holdfast-notifies", () => new Promise(() => { leads = true; later(SOON); }));
  document.addEventListener("visibilitychange", () => later(document.hidden ? EVERY : 0));
  const seq = document.getElementById("live-seq");
  if (seq) new MutationObserver(soon).observe(seq, {childList: true, characterData: true, subtree: true});
  later(EVERY);
}
