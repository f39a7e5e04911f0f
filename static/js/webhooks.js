/* A board's webhooks: added, tested, switched, and what was sent to them. */
import {announce, call, sent, toast} from "./api.js";
import {gettext} from "./words.js";

const main = document.getElementById("main"), form = document.getElementById("new-hook");
const box = document.querySelector("[data-secret]");

const refresh = () => htmx.ajax("GET", location.href, {target: "#hooks", select: "#hooks", swap: "outerMorph"});

/* Until the answers of all deliveries are there, more and more seldom. */
let following = 0;
async function follow() {
  const mine = ++following;
  for (let wait = 1500; main.querySelector(".pill.need"); wait = Math.min(1.25 * wait, 15_000)) {
    await new Promise(rest => setTimeout(rest, wait));
    if (mine !== following) return;
    if (!document.hidden) await refresh().catch(() => {}); // whoever is not reached is asked again
  }
}

function reveal(secret) {
  box.querySelector("code").textContent = secret;
  box.hidden = false;
  box.focus();
}

function trouble(where, error) {
  const line = where.querySelector("[data-problem]");
  line.textContent = error.message;
  line.hidden = false;
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  const kinds = form.elements.kinds.value.split(",").map(kind => kind.trim()).filter(Boolean);
  const made = await sent(form, () => call("POST", `/boards/${main.dataset.board}/webhooks`, {url: form.elements.url.value.trim(), kinds}));
  if (!made) return;
  form.reset();
  await refresh();
  reveal(made.secret);
});

const acts = {
  async test(path) { await call("POST", `${path}/test`, {}); announce(gettext("A test is on its way.")); await refresh(); await follow(); },
  async on(path) { await call("PATCH", path, {active: true}); await refresh(); },
  async off(path) { await call("PATCH", path, {active: false}); await refresh(); },
  async secret(path) { reveal((await call("PATCH", path, {new_secret: true})).secret); },
  async delete(path, button) {
    if (button.dataset.sure === undefined) {
      button.dataset.sure = "";
      button.textContent = gettext("Delete it for good");
      return;
    }
    await call("DELETE", path);
    await refresh();
    form.elements.url.focus();
    toast(gettext("Deleted."));
  },
};

main.addEventListener("click", async event => {
  const button = event.target.closest("button"), hook = button?.closest("[data-hook]");
  if (!hook) return;
  hook.querySelector("[data-problem]").hidden = true;
  if (button.dataset.act === "test" || button.dataset.repeat) hook.querySelector("details").open = true;
  try {
    if (button.dataset.act) await acts[button.dataset.act](`/webhooks/${hook.dataset.hook}`, button);
    else if (button.dataset.repeat) {
      await call("POST", `/deliveries/${button.dataset.repeat}/repeat`, {});
      await refresh();
      await follow();
    }
  } catch (error) { trouble(hook, error); }
});
