/* Writes go through the REST API with the session and its CSRF token; errors are sentences. */
import {gettext} from "./words.js";

export class Refused extends Error {
  constructor(problem, status) {
    super(problem.detail || gettext("The server refused that; try again."));
    Object.assign(this, {status, code: problem.code, current: problem.current, errors: problem.errors, files: problem.files});
  }
}

function csrf() {
  return document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
}

/* Where nothing answered, or nothing behind the door did: the same request may be sent again. */
export const unreachable = refusal => [0, 502, 503, 504].includes(refusal?.status);

/* A name for one request, under which the server answers it only once. */
export const newKey = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

export async function call(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method,
      headers: {"Content-Type": "application/json", "X-CSRFToken": csrf(), ...headers},
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused({detail: gettext("The server can't be reached; nothing was changed. Try again.")}, 0);
  }
  const told = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(told, answer.status);
  return told;
}

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
