/* How long leases still last, counted down wherever [data-until] says when. */
import {gettext} from "./words.js";

export function count() {
  for (const node of document.querySelectorAll("[data-until]")) {
    const left = Math.round((Date.parse(node.dataset.until) - Date.now()) / 1000);
    node.textContent = left > 0 ? gettext("{time} left", {time: `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`}) : gettext("lapsed");
  }
}
setInterval(count, 1000);
