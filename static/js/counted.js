/* Fields that say how much of what fits they hold, once that is nearly all. More is let in, so that
   nothing pasted is cut unseen, and refused in words when it is sent.
 *
 *   <textarea data-most="20000"></textarea>
 */
import {announce} from "./api.js";
import {gettext} from "./words.js";

const NEARLY = .9;
const number = new Intl.NumberFormat(document.documentElement.lang || undefined);

document.addEventListener("input", ({target: field}) => {
  const most = Number(field.dataset?.most);
  if (!most) return;
  // Counted as the server does, whole characters; no text has more of them than units.
  const holds = field.value.length > most * NEARLY ? [...field.value].length : 0, over = holds > most, was = !field.validity.valid;
  const values = {n: number.format(holds), most: number.format(most)};
  field.setCustomValidity(over ? gettext("This has {n} characters, and {most} fit. Nothing was cut: shorten it, then send it.", values) : "");
  let said = field.parentElement.querySelector(":scope > .counted");
  if (holds <= most * NEARLY) { said?.remove(); return; }
  if (!said) field.after(said = Object.assign(document.createElement("span"), {className: "counted num"}));
  said.textContent = gettext("{n} of {most} characters", values);
  said.classList.toggle("over", over);
  if (over && !was) announce(said.textContent, true);
});

/* In the form's own line rather than in a bubble, which has no place while the preview is shown. */
document.addEventListener("invalid", event => {
  const field = event.target, line = field.dataset.most && field.validity.customError && field.form?.querySelector(".problem");
  if (!line) return;
  event.preventDefault();
  line.textContent = field.validationMessage;
  line.hidden = false;
  field.focus();
}, true);
