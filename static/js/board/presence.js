/* Who else looks at the board: avatars in the top bar, and on the card that somebody has open. */
import {gettext, ngettext} from "../words.js";
import {$, board, cardOf, make} from "./dom.js";

const SHOWN = 4;
const place = document.getElementById("presence") ?? $(".top .push")?.appendChild(make("div", {id: "presence"}));
/* Card → the others who have it open. */
let open = new Map();

const avatar = ({name, hue}) => make("span", {className: `av h a${hue}`, title: name, "aria-hidden": "true", textContent: name.slice(0, 1).toUpperCase()});

export function meet({viewers, me}) {
  const others = viewers.filter(({id}) => id !== me), mine = viewers.filter(({id}) => id === me);
  if (place) {
    place.replaceChildren(...others.length ? [stack(others, mine)] : []);
    place.classList.toggle("none", !others.length);
  }
  const count = document.getElementById("live-viewers") ?? document.getElementById("live-seq")?.after(make("span", {id: "live-viewers"})) ?? document.getElementById("live-viewers");
  if (count) count.textContent = viewers.length > 1 ? `· ${ngettext("{n} viewer", "{n} viewers", viewers.length)}` : "";
  const before = [...open.keys()];
  open = new Map();
  for (const viewer of others) {
    for (const card of viewer.cards) open.set(card, [...open.get(card) ?? [], viewer]);
  }
  before.filter(card => !open.has(card)).forEach(card => $(".here", cardOf(card) ?? board)?.remove());
  mark();
}

function stack(others, mine) {
  const names = others.map(({name}) => name).join(", ");
  const label = mine.length
    ? ngettext("{names} looks at this board, too", "{names} look at this board, too", others.length, {names})
    : gettext("Looking at this board: {names}", {names});
  const row = make("span", {className: "stack", role: "img", "aria-label": label, title: names}, ...others.slice(0, SHOWN).map(avatar));
  if (others.length > SHOWN) row.append(make("span", {className: "av h more", "aria-hidden": "true", textContent: `+${others.length - SHOWN}`}));
  return row;
}

/* Shows on each card who has it open; again after it was drawn anew. */
function mark() {
  for (const [id, viewers] of open) {
    const card = cardOf(id), head = card && $(".hd", card), names = viewers.map(({name}) => name).join(", ");
    if (!head || $(".here", head)?.title === names) continue;
    $(".here", head)?.remove();
    const label = ngettext("{names} has it open", "{names} have it open", viewers.length, {names});
    $(".key", head).after(make("span", {className: "here stack", role: "img", "aria-label": label, title: names}, ...viewers.slice(0, 3).map(avatar)));
  }
}

new MutationObserver(() => { if (open.size) mark(); }).observe(board, {childList: true, subtree: true});

/* Tells ``looking(card)`` which card the drawer of this page shows. */
export function tellOpen(looking) {
  const drawer = document.getElementById("drawer");
  board.addEventListener("holdfast:open", event => looking(event.detail.id));
  if (drawer) new MutationObserver(() => { if (drawer.hidden) looking(null); }).observe(drawer, {attributes: true, attributeFilter: ["hidden"]});
}
