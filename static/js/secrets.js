/* A board's secrets: set, replaced and removed; their values go one way. */
import {Refused, announce, call, sent, toast} from "./api.js";
import {gettext} from "./words.js";

const part = document.querySelector("[data-secrets]"), form = part?.querySelector("[data-secret-form]");
const say = text => { announce(text); toast(text, {seconds: 3}); };
const path = name => `/boards/${part.dataset.secrets}/secrets/${encodeURIComponent(name)}`;
/* The list alone: what stands in the form stays. */
const refresh = () => htmx.ajax("GET", location.href, {target: "#secrets .people", select: "#secrets .people", swap: "outerHTML"});

part?.addEventListener("change", event => {
  if (event.target.name === "shown") form.elements.value.classList.toggle("masked", !event.target.checked);
});

part?.addEventListener("submit", async event => {
  event.preventDefault();
  const name = form.elements.name.value.trim();
  const told = await sent(form, async () => {
    // What has no name would be asked for by another address.
    if (!name || name.includes("/")) throw new Refused({errors: {name: [gettext("Use letters, digits and _, no digit first.")]}});
    return call("PUT", path(name), {value: form.elements.value.value});
  });
  if (!told) return;
  form.reset();
  form.elements.value.classList.add("masked");
  await refresh();
  form.elements.name.focus();
  say(gettext("The secret {name} is set.", {name}));
});

part?.addEventListener("click", async event => {
  const row = event.target.closest("li[data-name]"), button = event.target.closest("button");
  if (!row || !button) return;
  const {name} = row.dataset;
  if (button.dataset.replace !== undefined) {
    form.elements.name.value = name;
    form.elements.value.focus();
    return;
  }
  if (!button.dataset.sure) {
    button.dataset.sure = "1";
    button.classList.add("need");
    button.classList.remove("icon");
    button.textContent = gettext("Really?");
    button.setAttribute("aria-label", gettext("Really remove {name}?", {name}));
    return;
  }
  try {
    await call("DELETE", path(name));
    await refresh();
    form.elements.name.focus();
    say(gettext("Removed."));
  } catch (refusal) { announce(refusal.message, true); toast(refusal.message); }
});
