/* Columns: folded up and unfolded, and more of them read. */
import {reachOf} from "./cards.js";
import {$, $$, board, columnOf, key, narrow, query} from "./dom.js";

// More of a column: htmx fetches them, below what is shown of it by then.
board.addEventListener("click", event => {
  const button = event.target.closest("[data-more]");
  if (!button) return;
  const column = columnOf(button), reach = reachOf(column);
  if (event.isTrusted) column.dataset.pages = Number(column.dataset.pages ?? 0) + 1;
  const place = reach ? `place=${JSON.stringify(reach)}` : "place=";
  const lane = column.dataset.lane ? `&lane=${encodeURIComponent(column.dataset.lane)}` : "";
  button.setAttribute("hx-get", `/boards/${key}/columns/${column.dataset.column}?${place}${lane}${query()}`);
}, true);

export function fold(column, {focus = true} = {}) {
  const folded = column.classList.toggle("rail");
  const all = $$(".col.rail", board).map(other => other.dataset.column);
  document.cookie = `folded=${all.join("_") || "none"}; path=/boards/${key}; max-age=31536000; samesite=lax`;
  if (focus) $(folded ? ".unfold" : "header [data-fold]", column).focus();
  unread(column);
}

/* Reads a column that was folded up when the page was made. */
function unread(column) {
  if (column.classList.contains("rail") || column.dataset.unread === undefined) return;
  delete column.dataset.unread;
  const button = $("[data-more]", column);
  if (!button.parentElement.hidden) button.click();
}
export function unfold() {
  if (narrow.matches) $$(".col.rail", board).forEach(column => { column.classList.remove("rail"); unread(column); });
}
narrow.addEventListener("change", unfold);
