/* The rows of a form that say what "done" means: added, taken away, and read as the API takes them. */

/* Shows of a criterion's row what its kind asks for. */
export function asked(row) {
  const {value} = row.querySelector("[name=kind]");
  for (const part of row.querySelectorAll("[data-of]")) part.hidden = part.dataset.of !== value;
}

/* Makes the buttons and choices of the rows in `root` work. */
export function criteria(root) {
  root.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (button?.dataset.addCriterion !== undefined) {
      const rows = root.querySelector("[data-rows]"), made = root.querySelector("[data-row-template]").content.cloneNode(true);
      rows.append(made);
      asked(rows.lastElementChild);
      rows.lastElementChild.querySelector("[name=text]").focus();
    } else if (button?.dataset.dropCriterion !== undefined) {
      const row = button.closest(".critrow"), next = row.nextElementSibling ?? row.previousElementSibling;
      row.remove();
      (next?.querySelector("[name=text]") ?? root.querySelector("[data-add-criterion]")).focus();
    }
  });
  root.addEventListener("change", event => {
    if (event.target.matches(".critrow [name=kind]")) asked(event.target.closest(".critrow"));
  });
}

/* The criteria of a form's rows; one without words is none. */
export const criteriaIn = form => [...form.querySelectorAll(".critrow")].map(criterionIn).filter(({text}) => text);

function criterionIn(row) {
  const get = name => row.querySelector(`[name=${name}]`)?.value.trim() ?? "";
  const kind = get("kind"), criterion = {text: get("text")};
  if (kind === "check" || kind === "tests") criterion[kind] = get(kind);
  if (kind === "by_person") criterion.by_person = true;
  if (kind === "probe") criterion.probe = {url: get("url"), status: Number(get("status")), text: get("contains")};
  return criterion;
}
