/* A bundle: kept as an artifact, then brought in; what it became is linked to. */
import {Refused, announce, call, sent, upload} from "./api.js";
import {gettext, ngettext} from "./words.js";

const SHOWN = 50;
const form = document.getElementById("bundle"), brought = form.querySelector("[data-brought]");

function show(cards) {
  const heading = document.createElement("h2"), list = document.createElement("ul");
  heading.textContent = ngettext("{n} card is here.", "{n} cards are here.", cards.length);
  for (const [was, key] of cards.slice(0, SHOWN)) {
    const link = Object.assign(document.createElement("a"), {href: `/cards/${encodeURIComponent(key)}`, textContent: key});
    const item = document.createElement("li");
    item.append(link, was === key ? "" : ` (${gettext("was {key}", {key: was})})`);
    list.append(item);
  }
  brought.replaceChildren(heading, list);
  brought.hidden = false;
  announce(heading.textContent);
  brought.focus();
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  const [file] = form.elements.bundle.files;
  brought.hidden = true;
  const told = await sent(form, async () => {
    if (file.size > Number(form.dataset.most)) throw new Refused({detail: gettext("The file is too large for a bundle.")});
    const {sha256} = await upload(file);
    return call("POST", `/boards/${form.dataset.board}/bundles`, {artifact: sha256});
  });
  if (!told) return;
  show(Object.entries(told.cards));
  form.reset();
});
