/* Writes go through the REST API with the session and its CSRF token; errors are sentences. */
import {gettext} from "./words.js";

export class Refused extends Error {
  constructor(problem, status) {
    super(problem.detail || gettext("The server refused that; try again."));
    const {body, ...errors} = problem.errors ?? {}; // what is said of the whole is in the message
    Object.assign(this, {status, code: problem.code, current: problem.current, errors, files: problem.files});
  }
}

function csrf() {
  return document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
}

/* Where nothing answered, or nothing behind the door did: the same request may be sent again. */
export const unreachable = refusal => [0, 502, 503, 504].includes(refusal?.status);

/* A name for one request, under which the server answers it only once. */
export const newKey = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

export const call = (method, path, body, headers = {}) =>
  ask(method, path, body === undefined ? undefined : JSON.stringify(body), {"Content-Type": "application/json", ...headers});

/* Keeps a file as an artifact; the answer has its `sha256`. */
export const upload = file => ask("POST", "/artifacts", file, {"Content-Type": file.type || "application/octet-stream"});

async function ask(method, path, body, headers) {
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {method, headers: {"X-CSRFToken": csrf(), ...headers}, body});
  } catch {
    throw new Refused({detail: gettext("The server can't be reached; nothing was changed. Try again.")}, 0);
  }
  const told = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(told, answer.status);
  return told;
}

/* Does the work unless it is being done for this form already: who presses twice does it once. */
const busy = new WeakSet();
export async function once(form, work) {
  if (busy.has(form)) return undefined;
  busy.add(form);
  form.setAttribute("aria-busy", "true");
  try { return await work(); } finally {
    busy.delete(form);
    form.removeAttribute("aria-busy");
  }
}

/* The first sentence of a refusal, however deep the field that it is about. */
export function sentence(refusal) {
  const first = value => Array.isArray(value) ? value.map(first).find(Boolean) : value && typeof value === "object" ? Object.values(value).map(first).find(Boolean) : value;
  return first(refusal.errors) ?? refusal.message;
}

const VERB = /^(is|are|must|names|has|goes|can|contains|would|nests|belongs|says|needs)\b/;

/* Shows a refusal in the form's line for it, and at the field that it is about, which gets the focus. */
export function refuse(form, refusal) {
  const [name = ""] = Object.keys(refusal.errors ?? {}), field = form.querySelector(`[name="${CSS.escape(name.split(/[.[]/)[0])}"]`);
  const line = form.querySelector(".problem"), said = sentence(refusal), named = field?.name === name ? field.labels?.[0]?.textContent.trim() || name : name;
  // "is needed": of what the sentence is, its field says.
  line.textContent = !name || (field?.name === name && !VERB.test(said)) ? said : VERB.test(said) ? `${named} ${said}` : `${named}: ${said}`;
  line.hidden = false;
  if (!field || field.disabled) return;
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

/* Does what a form asks for, once at a time. Returns what that gives, or undefined where it was
   refused, which the form then says. */
export const sent = (form, work) => once(form, async () => {
  form.querySelector(".problem").hidden = true;
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  try { return await work(); } catch (refusal) {
    if (!(refusal instanceof Refused)) throw refusal;
    refuse(form, refusal);
    return undefined;
  }
});

/* What answers a question: the words, and why where the form has room for it. */
export const answering = (text, reason, question) => ({text: text.value, answers: Number(question), ...(reason?.value.trim() ? {reason: reason.value} : {})});

/* Says something to screen readers: politely, or at once for a refusal. */
export function announce(text, urgent = false) {
  const region = document.getElementById(urgent ? "alarm" : "announce");
  region.textContent = "";
  requestAnimationFrame(() => { region.textContent = text; });
}

/* Shows a passing message with at most one button; returns a function that takes it away. */
export function toast(text, {action, label, key, seconds = 10} = {}) {
  const box = document.createElement("div");
  box.className = "toast";
  const words = document.createElement("span");
  words.textContent = text;
  box.append(words);
  let timer;
  const close = () => { clearTimeout(timer); box.remove(); };
  if (action) {
    const button = document.createElement("button");
    button.className = "u";
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => { close(); action(); });
    box.append(button);
    if (key) box.append(Object.assign(document.createElement("kbd"), {textContent: key}));
  }
  const area = document.getElementById("toasts");
  while (area.children.length > 2) area.firstChild.remove();
  area.append(box);
  timer = setTimeout(close, seconds * 1000);
  return close;
}
