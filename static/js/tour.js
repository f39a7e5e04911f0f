/* The two-minute tour: steps that stand beside real things of the board. Nothing is blocked by it;
   it goes on where it was left, on whatever page, and is over for good when skipped. */
import {announce} from "./api.js";
import {gettext} from "./words.js";

const STEPS = [
  [".board .col", gettext("Columns say where work is"), gettext("Cards go from left to right. A number such as 2 / 3 is a limit: workers take no more than that.")],
  [".card", gettext("A card is one piece of work"), gettext("Open it with Enter, move it by dragging, with its menu, or with Alt and the arrows. J and K walk from card to card.")],
  ["[data-new-card]", gettext("Add what should be done"), gettext("C makes a card from anywhere on the board. Put it into In progress, and a worker takes it.")],
  [".quick", gettext("See what needs you"), gettext("Questions, stalled work and finished work to review are counted here. Press one to see only those cards.")],
  ["[data-go=w], [data-side-toggle]", gettext("Workers do the work"), gettext("Connect an agent and it shows up here with what it does, when it last spoke and what it cost.")],
  ["[data-go=i], [data-side-toggle]", gettext("You are told once"), gettext("Whatever waits for a person comes to the inbox: questions, reviews, trouble.")],
  ["[data-palette], [data-side-toggle]", gettext("Everything is two keystrokes away"), gettext("Ctrl or ⌘ and K finds any card and runs any command; ? lists all keys. That was the tour.")],
];
const KEPT = "tour-at";
let box, at = 0, target;

export function start(again) {
  at = Number(localStorage.getItem(KEPT) ?? 0);
  if (again) at = at >= STEPS.length ? 0 : at;
  if (!document.getElementById("board")) {
    localStorage.setItem(KEPT, String(at));
    document.querySelector("[data-go=b]")?.click();
    return;
  }
  if (!box) build();
  show();
}

function build() {
  box = document.createElement("section");
  box.className = "tour";
  box.id = "tour";
  box.tabIndex = -1;
  box.setAttribute("role", "dialog");
  box.setAttribute("aria-modal", "false");
  box.setAttribute("aria-labelledby", "tour-title");
  box.innerHTML = `<h2 id="tour-title"></h2><p></p><div class="row"><span class="num"></span><button class="btn ghost sm" type="button" data-skip></button><button class="btn sm" type="button" data-back></button><button class="btn primary sm" type="button" data-next></button></div>`;
  document.body.append(box);
  box.querySelector("[data-skip]").textContent = gettext("Skip the tour");
  box.querySelector("[data-back]").textContent = gettext("Back");
  box.addEventListener("click", event => {
    if (event.target.closest("[data-next]")) step(1);
    else if (event.target.closest("[data-back]")) step(-1);
    else if (event.target.closest("[data-skip]")) end();
  });
  box.addEventListener("keydown", event => {
    if (event.key === "Escape") { event.stopPropagation(); end(); }
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
  });
  addEventListener("resize", place);
  addEventListener("scroll", place, {capture: true, passive: true});
}

function step(by) {
  at = Math.max(0, at + by);
  if (at >= STEPS.length) end();
  else show();
}

function show() {
  localStorage.setItem(KEPT, String(at));
  const seen = selector => [...document.querySelectorAll(selector)].find(node => node.checkVisibility?.() ?? node.offsetParent);
  const [selector, title, text] = STEPS[at];
  target?.classList.remove("toured");
  target = seen(selector);
  target?.classList.add("toured");
  box.querySelector("h2").textContent = title;
  box.querySelector("p").textContent = text;
  box.querySelector(".num").textContent = gettext("{n} of {all}", {n: at + 1, all: STEPS.length});
  box.querySelector("[data-back]").hidden = at === 0;
  box.querySelector("[data-next]").textContent = at === STEPS.length - 1 ? gettext("Done") : gettext("Next");
  place();
  box.focus({preventScroll: true});
  announce(`${title}. ${text}`);
}

/* Beside its target if there is room, else in the lower corner. */
function place() {
  if (!box?.isConnected) return;
  const gap = 12, {offsetWidth: wide, offsetHeight: high} = box;
  const rect = target?.isConnected ? target.getBoundingClientRect() : null;
  let left = innerWidth - wide - gap, top = innerHeight - high - gap;
  if (rect && rect.width) {
    if (rect.right + gap + wide < innerWidth) { left = rect.right + gap; top = rect.top; }
    else if (rect.bottom + gap + high < innerHeight) { left = rect.left; top = rect.bottom + gap; }
    else if (rect.left - gap - wide > 0) { left = rect.left - gap - wide; top = rect.top; }
  }
  box.style.left = `${Math.max(gap, Math.min(left, innerWidth - wide - gap))}px`;
  box.style.top = `${Math.max(gap, Math.min(top, innerHeight - high - gap))}px`;
}

function end() {
  localStorage.removeItem(KEPT);
  target?.classList.remove("toured");
  const to = target;
  box.remove();
  box = null;
  removeEventListener("resize", place);
  const focusable = to?.matches("a, button, [tabindex]") ? to : to?.querySelector("a, button");
  (focusable ?? document.querySelector(".card .t"))?.focus({preventScroll: true});
  announce(gettext("The tour is over. The menu under your name starts it again."));
  const url = new URL(location.href);
  if (url.searchParams.has("tour")) { url.searchParams.delete("tour"); history.replaceState(history.state, "", url); }
}
