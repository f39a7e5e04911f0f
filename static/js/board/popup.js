/* Menus that open at a button: arrow keys, digits, Escape, and focus back to where it was. */
import {$$} from "./dom.js";

/* Makes the popover a menu; `choose(item)` is called with what was chosen, after it closed. */
export function popup(menu, choose) {
  let back = null;
  const items = () => $$(".mi:not([hidden])", menu);
  const close = () => { menu.hidePopover(); back?.isConnected && back.focus({preventScroll: true}); };

  // Closed by whatever means: by us, by Escape before focus came to it, by a click elsewhere.
  menu.addEventListener("toggle", event => {
    const lost = document.activeElement === document.body || menu.contains(document.activeElement);
    if (event.newState === "closed" && lost && back?.isConnected) back.focus({preventScroll: true});
  });
  menu.addEventListener("keydown", event => {
    const all = items(), at = all.indexOf(document.activeElement);
    if (event.target.matches("input") && !["Escape", "ArrowDown"].includes(event.key)) { event.stopPropagation(); return; }
    if (event.key === "ArrowDown") all[(at + 1) % all.length]?.focus();
    else if (event.key === "ArrowUp") all[(at + all.length - 1) % all.length]?.focus();
    else if (event.key === "Home") all[0]?.focus();
    else if (event.key === "End") all.at(-1)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else if (/^[1-9]$/.test(event.key)) $$(".mi:has(kbd)", menu)[event.key - 1]?.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  menu.addEventListener("click", event => {
    const item = event.target.closest(".mi");
    if (!item) return;
    close();
    choose(item);
  });

  return {
    /* Opens it beside `anchor`, or above it where there is no room; `to` has focus afterwards. */
    open(anchor, to = anchor) {
      back = to;
      menu.showPopover();
      const at = anchor.getBoundingClientRect(), size = menu.getBoundingClientRect();
      const below = at.bottom + 4 + size.height < innerHeight - 8;
      menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
      menu.style.top = `${Math.max(8, below ? at.bottom + 4 : Math.max(8, at.top - 4 - size.height))}px`;
      (menu.querySelector("input:not([type=hidden])") ?? items()[0])?.focus();
    },
    close,
  };
}

/* True while any menu is open: single keys are its own then. */
export const popupIsOpen = () => !!document.querySelector(".menu:popover-open");
