/* Keeps "3 min" true while the page stays open, and tells the time of day where the reader is. */
export function spelled(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const minutes = Math.floor(s % 3600 / 60);
  if (s < 86_400) return `${Math.floor(s / 3600)} h${minutes ? ` ${minutes} min` : ""}`;
  return `${Math.floor(s / 86_400)} d`;
}

const clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false});
const short = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", hour12: false});

const moment = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "short"});

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/* Sets every time below ``root``; call it when new ones have come. */
export function tell(root = document) {
  // Whole seconds only: tenths would make the page flicker.
  for (const node of root.querySelectorAll("[data-age]")) {
    const seconds = (Date.now() - Date.parse(node.getAttribute("datetime"))) / 1000;
    write(node, seconds < 10 ? `${Math.max(0, Math.floor(seconds))} s` : spelled(seconds));
  }
  for (const node of root.querySelectorAll("[data-clock]")) {
    const at = new Date(node.getAttribute("datetime"));
    write(node, (node.dataset.clock === "short" ? short : clock).format(at));
  }
  for (const node of root.querySelectorAll("[data-moment]")) write(node, moment.format(new Date(node.getAttribute("datetime"))));
}

tell();
setInterval(() => document.hidden || tell(), 1000);
document.addEventListener("htmx:after:swap", () => tell());
