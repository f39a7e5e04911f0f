/* A goal's amendments: each can be withdrawn where it stands. */
import {announce, call, once, toast} from "./api.js";
import {renewed} from "./renewed.js";
import {gettext} from "./words.js";

const {goal} = document.getElementById("main").dataset;
const {main, soon} = renewed({concerns: ({subject, kind, data}) => /^(goal|amendment|criterion)\./.test(kind) && (subject === goal || data?.goal === goal)});

main.addEventListener("submit", event => {
  const form = event.target.closest("[data-withdraw]");
  if (!form) return;
  event.preventDefault();
  const number = form.dataset.withdraw, problem = form.querySelector(".problem");
  once(form, async () => {
    try {
      await call("POST", `/goals/${goal}/amendments/${number}/withdraw`, {reason: form.elements.reason.value});
      const said = gettext("Amendment {number} is withdrawn.", {number});
      announce(said);
      toast(said);
      problem.hidden = true;
      await soon();
      document.getElementById(`amendment-${number}`)?.scrollIntoView({block: "nearest"});
    } catch (refusal) {
      problem.textContent = refusal.message;
      problem.hidden = false;
    }
  });
});
