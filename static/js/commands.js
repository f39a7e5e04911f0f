/* What can be done from the palette. A page's scripts name their own:
 *
 *   register({name: "card.pause", words: gettext("Pause"), keys: "", icon: "pause", when, run})
 *
 * ``when()`` says whether it can be done now, and ``run(subject)`` does it to the card that had
 * focus. A second command of a name takes the place of the first.
 * The event ``holdfast:command`` on document with ``{name}`` as its detail runs one, too.
 */
const registered = new Map();

export function register(...commands) {
  for (const command of commands) registered.set(command.name, command);
}

export const available = subject => [...registered.values()].filter(command => !command.when || command.when(subject));

export function run(name, subject = subjectNow()) {
  const command = registered.get(name);
  if (command && (!command.when || command.when(subject))) return command.run(subject);
}

/* The card that has focus, is open in the drawer or is the page; null when there is none. A goal's
   page is edited like a card's, and is none. */
export function subjectNow() {
  const node = document.activeElement?.closest?.(".card[data-key]")
    ?? document.querySelector("#drawer:not([hidden]) [data-card][data-key]")
    ?? document.querySelector("#main[data-card][data-key]:not(.goal)");
  return node && {node, id: node.dataset.card, key: node.dataset.key};
}

document.addEventListener("holdfast:command", event => run(event.detail.name));

/* One setting for all pages: whether a letter alone does something. */
export const singleKeys = () => localStorage.getItem("single-keys") !== "off";

/* Says whether a key belongs to what somebody types or has open. */
export const taken = event => event.target.matches?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]")
  || document.querySelector("dialog[open], [popover]:popover-open:not([data-tour-step])");
