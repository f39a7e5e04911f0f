/* The page of a goal: its parts renewed as events arrive, edited in place, checked on demand. */
import {announce, call, newKey, once, sentence, toast} from "./api.js";
import {register} from "./commands.js";
import {asked, criteria, criteriaIn} from "./criteria.js";
import {ABOUT, settled} from "./discoveries.js";
import {carriedBy, editing, ready} from "./edit.js";
import {walkable, walking} from "./lineage.js";
import {renewed} from "./renewed.js";
import {gettext} from "./words.js";

const place = document.getElementById("main");
const {card: goal, board} = place.dataset;
const path = `/goals/${goal}`;

/* What happens at every step of an attempt changes nothing that is shown here. */
const QUIET = /^(log|step|checkpoint)\./;
const {main, soon} = renewed({
  concerns(event) {
    if (event.subject === goal) return true;
    if (QUIET.test(event.kind)) return false;
    if (event.data?.goal === goal) return true;
    // A card may have left the goal just now; one that is shown here may have changed.
    return /^goal\./.test(event.kind) || Boolean(place.querySelector(`[data-subject="${CSS.escape(event.subject)}"]`));
  },
  held: () => Boolean(place.querySelector("dialog[open]")),
  gone: `/boards/${board}/goals`,
  after() { ready(); walkable(); },
});

carriedBy(({fields, version}) => call("PATCH", path, fields, {"If-Match": `"${version}"`}));
editing(main, soon);
main.addEventListener("close", () => soon(), true);
criteria(main);
walking(main);
main.addEventListener("budget-saved", () => soon());

/* ---- what is done here ------------------------------------------------------------------- */

const doing = (button, act, done) => once(button, async () => {
  try {
    const said = await act() ?? done;
    announce(said);
    toast(said, {seconds: 4});
    await soon();
  } catch (refusal) {
    announce(refusal.message, true);
    toast(refusal.message);
  }
});

main.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.check !== undefined) doing(button, async () => { await call("POST", `${path}/check`, {}); }, gettext("The checks will be run."));
  else if (button.dataset.status) doing(button, async () => { await call("PATCH", path, {status: button.dataset.status}); }, gettext("Saved."));
  else if (button.dataset.pin) doing(button, async () => { await call("PATCH", button.dataset.pin, {pinned: button.getAttribute("aria-pressed") !== "true"}); }, gettext("Saved."));
  else if (button.dataset.replan !== undefined) {
    doing(button, async () => {
      const {key} = await call("POST", `${path}/plans/ask`, {}, {"Idempotency-Key": newKey()});
      return gettext("{key} waits for an agent.", {key});
    });
  } else if (button.dataset.dialog) {
    const dialog = document.getElementById(button.dataset.dialog);
    for (const row of dialog.querySelectorAll(".critrow")) asked(row);
    dialog.showModal();
  } else if (button.dataset.close !== undefined) button.closest("dialog").close();
});

/* ---- the palette ------------------------------------------------------------------------- */

const leads = [["plans", gettext("This goal: its plans"), "check"], ["amendments", gettext("This goal: its amendments"), "clock"]];
register(
  ...leads.map(([name, words, icon]) => ({name: `goal.${name}`, words, icon, href: `${path}/${name}`, run: () => location.assign(`${path}/${name}`)})),
  ...[...main.querySelectorAll(".tabs a")].map(({search, textContent: words}) => ({
    name: `goal.tab${search}`, words: gettext("This goal: {tab}", {tab: words}), icon: "right", run: () => main.querySelector(`.tabs a[href="${search}"]`).click()})),
  {name: "goal.check", words: gettext("This goal: check its criteria now"), icon: "play", when: () => Boolean(main.querySelector("[data-check]")), run: () => main.querySelector("[data-check]").click()},
  {name: "goal.criteria", words: gettext("This goal: change its criteria"), icon: "target", when: () => Boolean(main.querySelector("[data-dialog=criteria-form]")), run: () => main.querySelector("[data-dialog=criteria-form]").click()},
);

/* Writes what the form says, and gives the sentence that says so. */
async function written(form, button) {
  if (form.matches(ABOUT)) return settled(form, button);
  if (form.dataset.criteria !== undefined) {
    await call("PATCH", path, {criteria: criteriaIn(form)}, {"If-Match": `"${main.dataset.version}"`});
    form.closest("dialog").close();
  } else {
    await call("POST", `${path}/evidence`, {criterion: form.dataset.word, met: button.value === "true", detail: form.elements.detail.value});
    form.closest("details").open = false;
    form.reset();
  }
  return gettext("Saved.");
}

main.addEventListener("submit", event => {
  const form = event.target.closest(`[data-criteria], [data-word], ${ABOUT}`);
  if (!form) return;
  event.preventDefault();
  const line = form.querySelector(".problem"), button = event.submitter;
  once(form, async () => {
    try {
      const said = await written(form, button);
      line.hidden = true;
      announce(said);
      await soon();
    } catch (refusal) {
      line.textContent = refusal.status === 412 ? gettext("Somebody changed this goal meanwhile; look again, then save.") : sentence(refusal);
      line.hidden = false;
      announce(line.textContent, true);
    }
  });
});
document.querySelector(":target")?.scrollIntoView({block: "center"});
