/* The drawing of a card's attempts, walked with the arrow keys: one stop for Tab, each thing on it
   spoken by its label. */
const SIDEWAYS = {ArrowLeft: -1, ArrowRight: 1}, UPWARDS = {ArrowUp: -1, ArrowDown: 1};
let kept = "";

const things = drawing => [...drawing.querySelectorAll("a[data-row]")];
// Where its mark is; its words may stand on either side.
const middle = thing => { const at = (thing.querySelector(".hitbox") ?? thing).getBoundingClientRect(); return at.left + at.width / 2; };
const row = thing => Number(thing.dataset.row);
const named = thing => `${thing.getAttribute("href")} ${thing.getAttribute("class")}`;

/* Where the drawing is wider than the page, one sees its newest end first. */
const shown = new WeakSet();
function toNewest(drawing) {
  const line = drawing.closest(".line");
  if (!line || shown.has(line)) return;
  shown.add(line);
  line.scrollLeft = line.scrollWidth;
}

/* One thing can be reached by Tab: the one last walked to, else the newest attempt. */
export function walkable() {
  const drawing = document.querySelector("[data-lanes]");
  if (!drawing) return;
  toNewest(drawing);
  const all = things(drawing);
  const one = all.find(thing => thing === document.activeElement) ?? all.find(thing => named(thing) === kept) ?? drawing.querySelector("[data-first]");
  for (const thing of all) thing.setAttribute("tabindex", thing === one ? 0 : -1);
}

function go(thing) {
  if (!thing) return;
  kept = named(thing);
  walkable();
  thing.focus();
  thing.scrollIntoView({block: "nearest", inline: "nearest"});
}

export function walking(main) {
  // Where it does not fit, what happened last is what is looked for.
  const line = document.getElementById("card-line");
  if (line) line.scrollLeft = line.scrollWidth;
  main.addEventListener("keydown", event => {
    const here = event.target.closest?.("[data-lanes] a[data-row]"), {key} = event;
    if (!here || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = things(here.closest("[data-lanes]")), beside = all.filter(thing => row(thing) === row(here)).sort((a, b) => middle(a) - middle(b));
    let to;
    if (SIDEWAYS[key]) to = beside[beside.indexOf(here) + SIDEWAYS[key]] ?? here;
    else if (key === "Home") to = beside[0];
    else if (key === "End") to = beside.at(-1);
    else if (UPWARDS[key]) {
      const rows = [...new Set(all.map(row))].sort((a, b) => a - b), next = rows[rows.indexOf(row(here)) + UPWARDS[key]];
      to = all.filter(thing => row(thing) === next).sort((a, b) => Math.abs(middle(a) - middle(here)) - Math.abs(middle(b) - middle(here)))[0] ?? here;
    } else if (key === "PageUp" || key === "PageDown") to = here.closest("[data-lanes]").querySelector(`[data-page="${key === "PageUp" ? -1 : 1}"]`);
    else if (key === " ") to = here;
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (to && key.startsWith("Page")) {
      // The other lanes come in place; one goes on at their newest.
      document.addEventListener("htmx:after:swap", () => go(document.querySelector("[data-lanes] [data-first]")), {once: true});
      to.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
    } else if (key === " ") here.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
    else go(to);
  });
  walkable();
}
