/* Changes on their way to the server. While it can't be reached they are kept, over a reload of
 * the page too, and sent in order when it is back: each under the key of its first try, so that
 * one whose answer was lost is not done twice, and with the version that the person saw.
 *
 *   const told = await send({versions: {[card]: version}, method, path, body, what})
 *
 * gives the answer, or {queued: change} for one that is kept. ``what`` says it in words. Without a
 * version it is done to whatever the card is by then.
 */
import {Refused, call, newKey, unreachable} from "../api.js";
import {gettext} from "../words.js";
import {$, key} from "./dom.js";

const RETRY = 2000;
const SHELF = `queue ${key} ${$(".me")?.textContent.trim() ?? ""}`;
const told = {sent() {}, refused() {}, changed() {}};
let waiting = read(), flushing = false, away = false;

function read() {
  try { return JSON.parse(sessionStorage.getItem(SHELF)) ?? []; } catch { return []; }
}

function keep() {
  try {
    if (waiting.length) sessionStorage.setItem(SHELF, JSON.stringify(waiting));
    else sessionStorage.removeItem(SHELF);
  } catch { /* no room: they wait in this page alone */ }
  told.changed(waiting.length);
}

export const queued = card => waiting.some(change => card in change.versions);
export const queue = {
  get length() { return waiting.length; },
  get changes() { return [...waiting]; },
  /* Who hears of it: sent(change, answer), refused(change, refusal, cards), changed(count). */
  tell(listeners) { Object.assign(told, listeners); },
  set away(value) { away = value; if (!away) flush(); },
};

async function carry({id, method, path, body, versions}) {
  const headers = {"Idempotency-Key": id}, [version] = Object.values(versions);
  if (version) headers["If-Match"] = `"${version}"`;
  try {
    return await call(method, path, body, headers);
  } catch (refusal) {
    // An edit whose answer was lost is found made.
    if (method === "PATCH" && refusal.status === 412 && isMade(body, refusal.current)) return refusal.current;
    throw refusal;
  }
}

const isMade = (fields, card) => !!card && Object.entries(fields).every(([name, value]) => JSON.stringify(card[name]) === JSON.stringify(value));

export async function send({versions = {}, method = "POST", path, body, what, place}) {
  const change = {id: newKey(), versions, method, path, body, what, place, at: Date.now()};
  if (!waiting.length && !away) {
    try {
      return await carry(change);
    } catch (refusal) {
      if (!unreachable(refusal)) throw refusal;
    }
  }
  const first = waiting.push(change) === 1;
  keep();
  // The events still come: it was a moment's trouble, or this request's alone.
  if (first && !away) setTimeout(flush, RETRY);
  return {queued: change};
}

/* What waits behind a change builds on it: it goes on from its version, or not at all. */
function handOn(change, answer) {
  for (const card of Object.keys(change.versions)) {
    const version = answer?.version ?? answer?.results?.find(result => result.card === card)?.version;
    for (const other of waiting) {
      if (!(card in other.versions)) continue;
      if (version) other.versions[card] = version;
      else other.lost = true;
    }
  }
}

export async function flush() {
  if (flushing || away) return;
  flushing = true;
  try {
    while (waiting.length) {
      const [change] = waiting;
      let answer, refusal;
      try {
        if (change.lost) throw new Refused({detail: gettext("An earlier change to it was refused."), code: "stale_version"}, 409);
        answer = await carry(change);
      } catch (error) {
        refusal = error;
      }
      if (refusal?.status === 401) break;
      if (unreachable(refusal)) { setTimeout(flush, RETRY); break; }
      waiting.shift();
      change.answer = answer;
      handOn(change, answer);
      keep();
      if (refusal) told.refused(change, refusal, Object.keys(change.versions));
      else told.sent(change, answer);
    }
  } finally {
    flushing = false;
  }
}
