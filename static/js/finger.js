/* Drag and drop with a finger. Browsers' own drag and drop knows no touch on half of the phones,
   and where it does the scroll under the finger fights with it. So here a card is lifted by
   holding it, is followed by touch events, and lands where the finger leaves the glass; held and
   let go where it was, it shows its menu. A pen sends touch events too where it has no mouse. */
import {placeIn} from "./board/dom.js";

const HOLD_MS = 320, SLACK = 9, EDGE = 44, PAGE_MS = 550;
const IDLE = "textarea, input, button, select, form, summary";

/* The callbacks: `lift(card)`; `over(place)` and `drop(card, place)` with {column, card, edge} or
   null; `end(card)` after either; `rest(card)` for one that was only held. `tabs` maps ids of
   columns to what stands for them elsewhere; `inLane(lane, card)` gives the place in a lane that is
   folded up. */
export function fingers(board, tabs, {lift, over, drop, end, rest}, inLane) {
  let held = null;  // {card, id, x, y, timer, ghost, place, loop, since, side, moved}

  const touchOf = event => [...event.changedTouches].find(touch => touch.identifier === held?.id);

  function placeAt(x, y, card) {
    const under = document.elementFromPoint(x, y);
    const tab = under && [...tabs].find(([, element]) => element.contains(under));
    if (tab) return {column: document.getElementById(tab[0])};
    const column = under?.closest(".col");
    const lane = !column && under?.closest(".lane.folded");
    if (lane) return inLane(lane, card);
    return column && placeIn(column, y, card);
  }

  function begin() {
    const {card, x, y} = held, box = card.getBoundingClientRect();
    const ghost = held.ghost = card.cloneNode(true);
    ghost.removeAttribute("id");
    ghost.setAttribute("aria-hidden", "true");
    ghost.inert = true;
    ghost.classList.add("carried");
    Object.assign(ghost.style, {width: `${box.width}px`, left: `${box.left - x}px`, top: `${box.top - y}px`});
    board.append(ghost);
    board.classList.add("carrying");  // no snapping back to a column while one scrolls past it
    navigator.vibrate?.(12);
    lift(card);
    follow();
  }

  /* Once a frame: the ghost under the finger, the place under it, and what scrolls at an edge. */
  function follow() {
    if (!held?.ghost) return;
    const {x, y, card, ghost} = held, frame = board.getBoundingClientRect();
    ghost.style.transform = `translate(${x}px, ${y}px) rotate(1.5deg)`;
    held.place = placeAt(x, y, card);
    over(held.place);
    const list = held.place?.column?.querySelector("ol"), box = list?.getBoundingClientRect();
    if (box && y < box.top + EDGE) list.scrollTop -= 8;
    if (box && y > Math.min(box.bottom, innerHeight) - EDGE) list.scrollTop += 8;
    const side = x < frame.left + EDGE ? -1 : x > frame.right - EDGE ? 1 : 0;
    const now = performance.now();
    if (side !== held.side) Object.assign(held, {side, since: now});
    const column = board.querySelector(".col");
    if (side && column && column.offsetWidth > frame.width * 0.8) {
      // One column at a time, as on a phone: a moment at the edge turns the page.
      if (now - held.since > PAGE_MS) {
        board.scrollBy({left: side * frame.width, behavior: "smooth"});
        held.since = now;
      }
    } else if (side) {
      board.scrollLeft += side * 10;
    }
    held.loop = requestAnimationFrame(follow);
  }

  function finish(dropped) {
    const {card, ghost, place, timer, loop, moved} = held;
    clearTimeout(timer);
    cancelAnimationFrame(loop);
    held = null;
    if (!ghost) return;
    ghost.remove();
    board.classList.remove("carrying");
    if (dropped && moved && place) drop(card, place);
    end(card);
    if (dropped && !moved) rest(card);
  }

  board.addEventListener("touchstart", event => {
    if (held) { finish(false); return; }  // a second finger: a pinch, not a drag
    const card = event.target.closest(".card");
    if (!card || event.touches.length > 1 || event.target.closest(IDLE)) return;
    const {identifier: id, clientX: x, clientY: y} = event.changedTouches[0];
    held = {card, id, x, y, from: {x, y}, moved: false, side: 0, since: 0, timer: setTimeout(begin, HOLD_MS)};
  }, {passive: true});

  board.addEventListener("touchmove", event => {
    const touch = held && touchOf(event);
    if (!touch) return;
    const far = Math.hypot(touch.clientX - held.from.x, touch.clientY - held.from.y) > SLACK;
    if (held.ghost) {
      event.preventDefault();  // it is the card that moves, not the page
      Object.assign(held, {x: touch.clientX, y: touch.clientY, moved: held.moved || far});
    } else if (far) {
      finish(false);
    }
  }, {passive: false});

  board.addEventListener("touchend", event => {
    const touch = held && touchOf(event);
    if (!touch) return;
    if (held.ghost) {
      event.preventDefault();  // no click on what lies under the finger
      Object.assign(held, {x: touch.clientX, y: touch.clientY});
      held.place = placeAt(touch.clientX, touch.clientY, held.card);
    }
    finish(true);
  }, {passive: false});
  board.addEventListener("touchcancel", () => held && finish(false));

  // Holding a card would else open a menu, select its words, or start the browser's own drag.
  board.addEventListener("contextmenu", event => { if (held) event.preventDefault(); });
  board.addEventListener("dragstart", event => {
    if (!held) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, {capture: true});
  document.addEventListener("keydown", event => { if (event.key === "Escape" && held?.ghost) finish(false); });
}
