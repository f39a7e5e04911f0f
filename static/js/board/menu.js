/* What a card's menu does. */
import {announce, call, toast} from "../api.js";
import {$, $$, cardsIn, columnOf} from "./dom.js";
import {archive} from "./bulk.js";
import {move, refuse} from "./moves.js";
import {popup} from "./popup.js";
import {gettext} from "../words.js";

const menu = document.getElementById("move-menu");
let subject = null;
const opened = popup(menu, chosen);

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
  const archive = $("[data-archive]", menu);
  if (archive) archive.hidden = !(over || state === "backlog");
  opened.open(anchor, $(".t", card));
}

async function chosen(item) {
  const card = subject;
  if (item.dataset.moveTo) {
    move(card, document.getElementById(`col-${item.dataset.moveTo}`));
  } else if (item.dataset.rank) {
    const cards = cardsIn(columnOf(card)).filter(other => other !== card);
    const top = item.dataset.rank === "top";
    if (cards.length) move(card, columnOf(card), top ? {before: cards[0]} : {after: cards.at(-1)});
  } else if (item.dataset.archive !== undefined) {
    await archive([card]);
  } else if (item.dataset.watch) {
    await watch(card, item.dataset.watch === "true");
  } else {
    try {
      await call("POST", `/cards/${card.dataset.card}/${item.dataset.steer}`, {});
      announce(gettext("{key}: {what} done.", {key: card.dataset.key, what: item.textContent.trim()}));
    } catch (refusal) {
      refuse([card], refusal.message);
    }
  }
}

/* The person's own word on what they are told of one card, before their rules. */
async function watch({dataset: {card, key}}, watching) {
  const say = value => call("POST", `/cards/${card}/watch`, {watching: value});
  try {
    await say(watching);
    const text = watching ? gettext("You are told of everything about {key}.", {key}) : gettext("{key} is muted: you are told nothing of it.", {key});
    announce(text);
    toast(text, {label: gettext("Undo"), action: () => say(null).catch(refusal => toast(refusal.message))});
  } catch (refusal) {
    toast(refusal.message);
  }
}
