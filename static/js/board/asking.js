/* Questions in a dialog of the page's own. */
import {make} from "./dom.js";
import {gettext} from "../words.js";

let number = 0;

/* Gives the value of the choice taken, "" where the dialog was closed without one. */
export function ask({title, text, choices}) {
  const id = `ask-${++number}`;
  const form = make("form", {method: "dialog"}, make("h2", {id, textContent: title}), make("p", {textContent: text}));
  const row = make("div", {className: "row"});
  for (const {value, label, primary, danger} of choices) {
    const css = `btn${primary ? " primary" : ""}${danger ? " danger" : ""}`;
    row.append(make("button", {className: css, type: "submit", value, textContent: label, autofocus: !value}));
  }
  form.append(row);
  const dialog = make("dialog", {"aria-labelledby": id, className: "asking"}, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise(answered => dialog.addEventListener("close", () => {
    dialog.remove();
    answered(dialog.returnValue);
  }));
}

export const confirmed = async (title, text, yes) => await ask({
  title, text, choices: [{value: "", label: gettext("No, leave it")}, {value: "yes", label: yes, danger: true}],
}) === "yes";
