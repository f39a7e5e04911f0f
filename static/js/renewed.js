/* A page that stays like the server's: read again as events arrive, and made like it node by node,
 * so that what has focus, is open or half typed stays as it is.
 *
 *   const {soon} = renewed({concerns, held, gone, after})
 *
 * concerns(event)   whether an event changes what is shown
 * held()            true while nothing is to be renewed: who fills in a form does so for what it was
 * gone              where to go when there is no such page any more
 * after()           what scripts add to the page as the server made it
 * soon()            renews now; resolves when the page is as it is by then
 */
import {connect} from "./live.js";
import {gettext} from "./words.js";

/* Much may change at once: the page is read again once it has, and not before a while. */
const PACE = 1500;
export const WORDS = {
  connecting: gettext("Connecting"), live: gettext("Live"), "catching-up": gettext("Catching up"), polling: gettext("Live, slowly"),
  offline: gettext("Offline"), "signed-out": gettext("Signed out"), gone: gettext("No longer a member"),
};

/* Takes note of where the focus is in `main`. What it returns is for when that was made anew: had
   something the focus that is gone by then, what is nearest above it gets it. */
export function anchored(main) {
  const above = [];
  for (let node = document.activeElement?.closest("[id]"); node && main.contains(node); node = node.parentElement.closest("[id]")) above.push(node.id);
  return () => {
    if (document.activeElement && document.activeElement !== document.body) return;
    const place = above.map(id => document.getElementById(id)).find(node => node?.checkVisibility());
    if (!place) return;
    if (place.tabIndex < 0) place.tabIndex = -1;
    place.focus({preventScroll: true});
  };
}

export function renewed({concerns, held = () => false, gone = "/", after = () => {}}) {
  const main = document.getElementById("main");
  let running = null, again = false, due = 0;

  async function renew() {
    const url = location.href, answer = await fetch(url);
    if (!answer.ok) {
      // Once: a second departure would break off the first.
      if (answer.status === 404 && gone) [location.href, gone] = [gone, ""];
      return;
    }
    const text = await answer.text();
    if (url !== location.href) return renew();
    const stay = anchored(main);
    await htmx.swap({text, target: "#main", select: "#main", sourceElement: main, swap: "outerMorph"});
    stay();
  }

  function soon() {
    if (held()) return Promise.resolve();
    if (running) { again = true; return running; }
    return running = (async () => {
      try { do { again = false; await renew(); } while (again); } finally { running = null; }
    })();
  }
  function later() {
    // Until it has worked: nobody else will ask for what this was to show.
    due ||= setTimeout(() => { due = 0; soon().catch(later); }, PACE);
  }

  document.addEventListener("htmx:after:swap", after);
  connect({
    board: main.dataset.board,
    after: main.dataset.cursor,
    async onEvents(events) { if (events.some(concerns)) later(); },
    onState({state}) {
      const words = document.getElementById("live-state");
      if (words) words.textContent = WORDS[state] ?? state;
      document.getElementById("live-dot")?.classList.toggle("pulse", state === "live");
      main.dataset.live = state;
    },
    onResync: soon,
  });
  after();
  return {main, soon};
}
