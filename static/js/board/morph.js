/* Makes a node what a fresh one is, and touches only what differs: focus, typed text, what is
 * opened and what scripts have set stay as they are.
 *
 * Nodes with an id are found by it, others by their order, name and first class. A node with
 * hx-morph-skip is somebody else's and left alone, as htmx does.
 */
const KEPT = new Set(["open", "tabindex", "draggable"]);

export function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("hx-morph-skip") || old.isEqualNode(fresh)) return;
  for (const {name, value} of fresh.attributes) {
    if (old.getAttribute(name) !== value && !KEPT.has(name)) old.setAttribute(name, value);
  }
  for (const {name} of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !KEPT.has(name)) old.removeAttribute(name);
  }
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = counterpart(at, child);
    if (!same) { old.insertBefore(child, at); continue; }
    while (at !== same && !wanted(at, child)) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
    if (at !== same) old.insertBefore(same, at);
    else at = at.nextSibling;
    morph(same, child);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function counterpart(from, fresh) {
  let node = from;
  while (node && !alike(node, fresh)) node = node.nextSibling;
  return node;
}

function alike(node, fresh) {
  if (node.nodeName !== fresh.nodeName) return false;
  if (node.nodeType !== Node.ELEMENT_NODE) return true;
  return node.id === fresh.id && node.classList.item(0) === fresh.classList.item(0);
}

/* True if a later sibling of the fresh node needs this one. */
function wanted(node, fresh) {
  for (let next = fresh.nextSibling; next; next = next.nextSibling) if (alike(node, next)) return true;
  return false;
}
