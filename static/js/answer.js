/* The page behind the link in a letter: what becomes of its question meanwhile stands on it, and
 * what is half typed stays. It works without this, and whoever answers too late is told then. */
const EVERY = 3000;
const form = document.querySelector("form.answer"), said = document.getElementById("meanwhile");
const fields = form.querySelectorAll("button, input, textarea");
let timer = 0, sending = false;

function stand({open, words}) {
  if (said.hidden === open && said.textContent === words) return;
  said.textContent = words;
  said.hidden = open;
  form.classList.toggle("closed", !open);
  for (const field of fields) {
    // What is typed can still be read and taken along.
    if (field.matches("button")) field.disabled = !open;
    else field.readOnly = !open;
  }
}

async function look() {
  clearTimeout(timer);
  if (document.hidden || sending) return;
  try {
    const answer = await fetch("?standing", {headers: {Accept: "application/json"}, redirect: "error"});
    if (answer.ok && !sending) stand(await answer.json());
  } catch { /* whoever is not reached is asked again */ }
  timer = setTimeout(look, EVERY);
}

form.addEventListener("submit", () => { sending = true; });
// Back from the answer's page, which may have said what is missing.
addEventListener("pageshow", () => { sending = false; look(); });
document.addEventListener("visibilitychange", look);
