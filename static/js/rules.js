/* The page of the notification rules. */
import {announce, call, sent} from "./api.js";
import {gettext} from "./words.js";

const form = document.getElementById("rules"), own = document.getElementById("own-hook");
const saved = form.querySelector("[data-saved]");

form.addEventListener("input", event => {
  saved.textContent = "";
  const row = event.target.closest("tr");
  if (event.target.hasAttribute("data-wanted")) {
    row.querySelectorAll("[data-channel]").forEach(box => { box.disabled = !event.target.checked; });
  }
  form.querySelector("[data-boards]").hidden = form.elements.scope.value !== "chosen";
  form.querySelector("[data-daily]").hidden = form.elements.digest.value !== "daily";
});

function told() {
  const kinds = {};
  for (const row of form.querySelectorAll("tr[data-kind]")) {
    const on = [...row.querySelectorAll("[data-channel]:checked")].map(box => box.dataset.channel);
    kinds[row.dataset.kind] = row.querySelector("[data-wanted]").checked ? on : null;
  }
  const {elements: f} = form;
  return {
    kinds,
    scope: f.scope.value,
    boards: [...form.querySelectorAll("[name=boards]:checked")].map(box => box.value),
    digest: f.digest.value,
    digest_at: f.digest_at.value || "08:00",
    quiet_from: f.quiet_from.value || null,
    quiet_to: f.quiet_to.value || null,
    time_zone: f.time_zone.value,
    urgent_passes: f.urgent_passes.checked,
    email: f.email.value.trim(),
  };
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  const made = await sent(form, () => call("PATCH", "/me/notifications", told(), {"If-Match": `"${form.dataset.version}"`}));
  if (!made) return;
  form.dataset.version = made.version;
  saved.textContent = gettext("Saved.");
});

own.addEventListener("submit", async event => {
  event.preventDefault();
  const made = await sent(own, () => call("POST", "/me/webhook", {url: own.elements.url.value.trim(), kinds: [], active: true}));
  if (!made) return;
  const box = document.querySelector("[data-secret]");
  box.querySelector("code").textContent = made.secret;
  box.hidden = false;
  box.focus();
  own.reset();
});

document.addEventListener("click", async event => {
  const button = event.target.closest("[data-unwatch]");
  if (!button) return;
  try {
    await call("POST", `/cards/${button.dataset.unwatch}/watch`, {watching: null});
    const next = button.closest("li").nextElementSibling ?? button.closest("li").previousElementSibling;
    button.closest("li").remove();
    (next?.querySelector("button") ?? document.getElementById("h-cards")).focus?.();
  } catch (error) { announce(error.message, true); }
});

const allow = document.querySelector("[data-allow]"), says = document.querySelector("[data-permission]");

function permitted() {
  if (!("Notification" in window) || !window.isSecureContext) {
    allow.hidden = true;
    says.textContent = gettext("This browser shows notifications only from https addresses or this computer.");
  } else if (Notification.permission === "granted") {
    allow.hidden = true;
    says.textContent = gettext("Allowed here. They are shown while no page of Holdfast is in sight; a click opens the card.");
  } else if (Notification.permission === "denied") {
    allow.hidden = true;
    says.textContent = gettext("Blocked in this browser; allow them in its settings for this site.");
  }
}
allow.addEventListener("click", async () => { await Notification.requestPermission(); permitted(); announce(says.textContent); });
permitted();

// Who has set nothing yet is most likely where the browser is.
const here = Intl.DateTimeFormat().resolvedOptions().timeZone, zone = form.elements.time_zone;
if (form.dataset.version === "1" && zone.value === "UTC" && [...zone.options].some(o => o.value === here)) zone.value = here;
