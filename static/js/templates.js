/* Workflow templates: edited in a board's settings, and filled in for a new card. */
import {announce, call, toast} from "./api.js";
import {gettext} from "./words.js";

const make = (name, props, ...children) => {
  const node = Object.assign(document.createElement(name), props);
  node.append(...children);
  return node;
};

/* ---- in the settings ---------------------------------------------------------------------------- */

const part = document.querySelector("[data-templates]");
part?.addEventListener("submit", async event => {
  const form = event.target.closest("[data-template-form]");
  if (!form) return;
  event.preventDefault();
  const {name, description, source} = form.elements, problem = form.querySelector(".problem");
  const body = {name: name.value, description: description.value, source: source.value};
  const path = `/boards/${part.dataset.templates}/templates`, {template, version} = form.dataset;
  problem.hidden = true;
  source.removeAttribute("aria-invalid");
  try {
    if (template) {
      const kept = await call("PATCH", `${path}/${template}`, body, {"If-Match": `"${version}"`});
      form.dataset.version = kept.version;
      announce(gettext("Saved."));
      toast(gettext("Saved."), {seconds: 3});
    } else {
      await call("POST", path, body);
      location.reload();
    }
  } catch (refusal) {
    const places = Object.entries(refusal.errors ?? {});
    problem.textContent = places.length ? places.map(([place, said]) => `${place.replace(/^source\./, "")}: ${[said].flat().join(" ")}`).join("\n") : refusal.message;
    problem.hidden = false;
    const line = /\(line (\d+)\)/.exec(problem.textContent);
    if (places.some(([place]) => place.startsWith("source"))) {
      source.setAttribute("aria-invalid", "true");
      if (line) select(source, Number(line[1]));
    }
  }
});

/* Puts the caret on the line that is wrong, and marks it. */
function select(area, number) {
  const lines = area.value.split("\n"), start = lines.slice(0, number - 1).reduce((at, line) => at + line.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[number - 1] ?? "").length);
}

part?.addEventListener("click", async event => {
  const button = event.target.closest("[data-delete-template]");
  if (!button) return;
  if (!button.dataset.sure) {
    button.dataset.sure = "1";
    button.classList.add("need");
    button.textContent = gettext("Really?");
    return;
  }
  const form = button.closest("form");
  try {
    await call("DELETE", `/boards/${part.dataset.templates}/templates/${form.dataset.template}`);
    form.closest("details").remove();
    part.querySelector("summary")?.focus();
  } catch (refusal) {
    announce(refusal.message, true);
    toast(refusal.message);
  }
});

/* ---- for a new card ----------------------------------------------------------------------------- */

/* Offers the board's templates within the form; resolves to nothing there where it has none. */
export async function offer(form, board) {
  const place = form.querySelector("[data-from-template]");
  if (!place || place.dataset.asked) return;
  place.dataset.asked = "1";
  const {results} = await call("GET", `/boards/${board}/templates?limit=200`);
  if (!results.length) return;
  const choice = place.querySelector("select"), fields = place.querySelector("[data-inputs]");
  const named = results.sort((a, b) => a.name.localeCompare(b.name));
  choice.append(...named.map(one => make("option", {value: one.name, textContent: one.name})));
  place.hidden = false;
  const workflow = form.workflow.closest(".field");
  choice.addEventListener("change", () => {
    const template = named.find(one => one.name === choice.value);
    workflow.hidden = !!template;
    place.querySelector("[data-about]").textContent = template?.description ?? "";
    fields.replaceChildren(...(template?.inputs ?? []).map(field));
  });
  form.addEventListener("reset", () => { workflow.hidden = false; fields.replaceChildren(); });
}

/* What the form says of a template: nothing where none is chosen. */
export function chosen(form) {
  const place = form.querySelector("[data-from-template]"), template = place?.querySelector("select").value;
  if (!template) return {};
  const inputs = {};
  for (const input of place.querySelectorAll("[data-input]")) {
    if (input.type === "checkbox") inputs[input.dataset.input] = input.checked;
    else if (input.value !== "") inputs[input.dataset.input] = input.type === "number" ? Number(input.value) : input.value;
  }
  return {template, inputs};
}

function field({name, type, required, default: usual, help, options = []}) {
  const id = `nc-input-${name}`, words = required ? gettext("{name} (needed)", {name}) : name;
  const shared = {id, required: required && type !== "boolean" && usual === undefined};
  let input;
  if (type === "choice") {
    input = make("select", shared, ...(usual === undefined ? [make("option", {value: "", textContent: ""})] : []),
      ...options.map(option => make("option", {value: option, textContent: option, selected: option === usual})));
  } else if (type === "boolean") input = make("input", {...shared, type: "checkbox", checked: usual === true});
  else input = make("input", {...shared, type: type === "number" ? "number" : "text", step: "any", value: usual ?? ""});
  input.dataset.input = name;
  const about = help ? [make("span", {className: "quiet", id: `${id}-help`, textContent: help})] : [];
  if (help) input.setAttribute("aria-describedby", `${id}-help`);
  if (type === "boolean") return make("div", {}, make("label", {className: "check"}, input, words), ...about);
  return make("div", {className: "field"}, make("label", {htmlFor: id, textContent: words}), input, ...about);
}
