/* What can be undone. Whoever changes something calls
 *
 *   pushUndo({label: "PAY-3 moved to Review", undo, redo})
 *
 * with functions that do it back and again, and that throw a Refused where the server won't.
 * A change that others have changed since is never overwritten: ``undo`` sends the version that
 * ``standing`` gives, and is refused by the server when the card is past it.
 */
import {announce, toast} from "./api.js";
import {gettext} from "./words.js";

const MOST = 50;
const done = [], undone = [];
let close = () => {}, turn = Promise.resolve();

/* After a change was undone a thing is as it was, under a later number: card → number → later. */
const later = new Map();

/* Says that the card's version ``now`` is its version ``was`` come back. */
export function restored(card, was, now) {
  const end = standing(card, was);
  if (!end || !now || end === Number(now)) return;
  if (!later.has(card)) later.set(card, new Map());
  later.get(card).set(end, Number(now));
}

/* The number under which what the card was at ``version`` stands now. */
export function standing(card, version) {
  const numbers = later.get(card);
  let number = Number(version);
  while (numbers?.has(number)) number = numbers.get(number);
  return number || undefined;
}

function say(text, more) {
  close();
  close = toast(text, more);
}

export function pushUndo({label, undo, redo}) {
  done.push({label, undo, redo});
  if (done.length > MOST) done.shift();
  undone.length = 0;
  say(label, {label: gettext("Undo"), key: "Z", action: undoLast});
}

/* Has the next undo wait for a change that is still on its way to the server; returns the change. */
export function after(change) {
  turn = Promise.all([turn, change]).catch(() => {});
  return change;
}

const turning = act => turn = turn.then(act).catch(error => console.error(error));

export function undoLast() {
  return turning(() => step(done, undone, "undo"));
}

export function redoLast() {
  return turning(() => step(undone, done, "redo"));
}

async function step(from, to, way) {
  const entry = from.pop();
  if (!entry) {
    announce(way === "undo" ? gettext("There is nothing to undo.") : gettext("There is nothing to redo."));
    return;
  }
  const back = way === "undo";
  try {
    await entry[way]();
    to.push(entry);
    const text = back ? gettext("Undone: {label}", entry) : gettext("Done again: {label}", entry);
    announce(text);
    say(text, back ? {label: gettext("Redo"), key: "⇧Z", action: redoLast} : {label: gettext("Undo"), key: "Z", action: undoLast});
  } catch (refusal) {
    const values = {label: entry.label, why: refusal.message};
    const text = back ? gettext("Not undone: {label}. {why}", values) : gettext("Not done again: {label}. {why}", values);
    announce(text, true);
    say(text);
  }
}
