/* What a card's menu does. */
import {announce, call} from "../api.js";
import {$, $$, board, cardsIn, columnOf} from "./dom.js";
import {explain, move} from "./moves.js";

const menu = document.getElementById("move-menu");
let subject = null;

export function openMenu(card, anchor) {
  subject = card;
  $("[data-menu-title]", menu).textContent = card.dataset.key;
  for (const item of $$("[data-move-to]", menu)) {
    const here = item.dataset.moveTo === columnOf(card).dataset.column;
    here ? item.setAttribute("aria-current", "true") : item.removeAttribute("aria-current");
  }
  const {state} = card.dataset, over = state === "completed" || state === "cancelled";
  const fits = {pause: !over, resume: !over, retry: state !== "running" && state !== "completed", cancel: !over};
  for (const item of $$("[data-steer]", menu)) item.hidden = !fits[item.dataset.steer];
  menu.showPopover();
  const at = anchor.getBoundingClientRect(), size = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
  menu.style.top = `${Math.max(8, Math.min(at.bottom + 4, innerHeight - size.height - 8))}px`;
  $(".mi", menu).focus();
}

function closeMenu() {
  menu.hidePopover();
  if (subject?.isConnected) $(".t", subject)?.focus({preventScroll: true});
}

// Closed by whatever means: by us, by Escape before focus came to it, by a click elsewhere.
menu.addEventListener("toggle", event => {
  const lost = document.activeElement === document.body || menu.contains(document.activeElement);
  if (event.newState === "closed" && lost && subject?.isConnected) $(".t", subject).focus({preventScroll: true});
});

menu.addEventListener("keydown", event => {
  const items = $$(".mi:not([hidden])", menu), at = items.indexOf(document.activeElement);
  if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
  else if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus();
  else if (event.key === "Escape" || event.key === "Tab") closeMenu();
  else if (/^[1-9]$/.test(event.key)) $$("[data-move-to]", menu)[event.key - 1]?.click();
  else return;
  event.preventDefault();
  event.stopPropagation();
});

menu.addEventListener("click", async event => {
  const item = event.target.closest(".mi"), card = subject;
  if (!item || !card) return;
  closeMenu();
  if (item.dataset.moveTo) {
    move(card, document.getElementById(`col-${item.dataset.moveTo}`));
  } else if (item.dataset.rank) {
    const cards = cardsIn(columnOf(card)).filter(other => other !== card);
    const top = item.dataset.rank === "top";
    if (cards.length) move(card, columnOf(card), top ? {before: cards[0]} : {after: cards.at(-1)});
  } else {
    try {
      await call("POST", `/cards/${card.dataset.card}/${item.dataset.steer}`, {});
      announce(`${card.dataset.key}: ${item.textContent.trim()} done.`);
    } catch (refusal) {
      await explain(card, columnOf(card), refusal, {});
    }
  }
});
export const menuIsOpen = () => menu.matches(":popover-open");
