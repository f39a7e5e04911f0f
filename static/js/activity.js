/* The page of events stays as it is while somebody reads; what is new waits behind a button. */
import "./asked.js";
import {connect} from "./live.js";
import {tell} from "./times.js";
import {gettext, ngettext} from "./words.js";

const main = document.getElementById("main");
const button = document.getElementById("fresh");
const STATES = {
  connecting: gettext("Connecting"), live: gettext("Live"), "catching-up": gettext("Catching up"),
  polling: gettext("Polling"), offline: gettext("Offline"), "signed-out": gettext("Signed out"),
  gone: gettext("Gone"),
};
const REST = 1000;
const newest = () => new URL(main.dataset.newest || "?", location.href);
let cursor = Number(main.dataset.cursor), asking = false, again = false;

async function count() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  const address = newest(), after = cursor;
  address.searchParams.set("after", after);
  try {
    const answer = await fetch(address, {headers: {Accept: "application/json"}});
    const told = answer.ok && await answer.json();
    if (told && after === cursor) offer(told.new); // those of before the button was pressed are shown
  } catch (error) {
    console.error(error); // the next event asks again
  }
  await new Promise(rest => setTimeout(rest, REST));
  asking = false;
  if (again) {
    again = false;
    count();
  }
}

function offer(n) {
  button.hidden = !n;
  if (n) button.textContent = n > 99 ? gettext("99+ new") : ngettext("{n} new", "{n} new", n);
}

button.addEventListener("click", async () => {
  const address = newest();
  const before = cursor;
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok) {
    location.assign(address);
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const list = document.getElementById("events");
  list.replaceWith(page.getElementById("events"));
  cursor = Number(page.getElementById("main").dataset.cursor);
  history.replaceState(null, "", address);
  offer(0);
  tell(document.getElementById("events"));
  document.querySelector(".stream").scrollTo({top: 0});
  // Focus goes on where the new ones begin to be read: at the newest.
  const first = document.querySelector("#events .seq");
  if (first && Number(first.textContent.replace(/\D/g, "")) > before) first.focus({preventScroll: true});
});

connect({
  board: main.dataset.board,
  after: cursor,
  onEvents: count,
  onResync: count,
  onState({state}) {
    document.getElementById("live-state").textContent = STATES[state] ?? state;
    document.getElementById("live-dot").classList.toggle("pulse", state === "live");
  },
});
