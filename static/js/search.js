/* The page of search: what is found follows what is typed, and what others write meanwhile. It
 * works without this, by its button. */
import {announce} from "./api.js";
import {gettext} from "./words.js";

const REST = 250, AGAIN = 2000, LATER = 20000;
const form = document.querySelector("main.found form.asked"), box = form.elements.q;
const main = document.getElementById("main");
let typing = 0, later = 0, asking = null;

function address() {
  const asked = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...asked]) if (!value.trim()) asked.delete(name);
  return `${location.pathname}?${asked}`;
}

/* Shows what the address finds; what had focus keeps it. Whoever types on ends what was asked before. */
async function show(url) {
  clearTimeout(later);
  asking?.abort();
  const mine = asking = new AbortController();
  main.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(url, {signal: mine.signal});
    if (answer.redirected || answer.status === 401) return location.assign(url);
    if (!answer.ok && answer.status !== 422) throw new Error(answer.statusText);
    const text = await answer.text();
    if (mine.signal.aborted) return;
    history.replaceState(history.state, "", url);
    await htmx.swap({text, target: "#found", select: "#found", sourceElement: main, swap: "outerMorph"});
    document.title = new DOMParser().parseFromString(text, "text/html").title;
    box.toggleAttribute("aria-invalid", Boolean(document.getElementById("problem")));
    later = setTimeout(renew, LATER);
  } catch (error) {
    if (mine.signal.aborted) return;
    lost();
    later = setTimeout(() => show(address()), AGAIN);
  } finally {
    if (asking === mine) main.removeAttribute("aria-busy");
  }
}

/* What was found stays, with a word that it may be old. */
function lost() {
  const line = document.getElementById("unreached");
  if (!line.hidden) return;
  line.hidden = false;
  line.textContent = gettext("The server can't be reached. What is below is from before; it is asked again.");
  announce(line.textContent, true);
}

/* Others write meanwhile; whoever reads on, further down, keeps what is there. */
function renew() {
  clearTimeout(later);
  const reading = document.getElementById("found").scrollTop > 0 || new URLSearchParams(location.search).has("cursor");
  if (document.hidden || reading || !box.value.trim()) later = setTimeout(renew, LATER);
  else show(address());
}

box.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => show(address()), REST);
});
form.addEventListener("submit", event => {
  event.preventDefault();
  clearTimeout(typing);
  show(address());
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) renew(); });
later = setTimeout(renew, LATER);
