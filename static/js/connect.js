/* The connect page: copy buttons. The page itself is renewed by htmx. */
import {announce} from "./api.js";

/* Outside a secure context (http on a network) there is no clipboard to write to, but a selection
   can still be copied; failing that it stays selected, one key from being copied. */
async function copy(source) {
  const text = source.value ?? source.textContent;
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (source.select) source.select();
    else getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}

document.addEventListener("click", async event => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  const words = button.querySelector("span");
  const done = await copy(document.getElementById(button.dataset.copy));
  words.textContent = done ? "Copied" : "Press Ctrl C";
  announce(done ? "Copied." : "The text is selected; press Control C to copy it.");
  setTimeout(() => { words.textContent = "Copy"; }, 2000);
});

/* Buttons that need this script show once it runs. */
function reveal() {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
}
reveal();
document.addEventListener("htmx:after:swap", reveal);

/* Signed out in another tab, or for too long: the token stays, the news can't come any more. */
document.addEventListener("htmx:after:request", event => {
  const said = document.querySelector("#called > span:last-child");
  if (event.detail.ctx?.response?.status !== 401 || !said) return;
  said.textContent = "You are signed out. Copy what you need, then load the page again to sign in.";
});
