/* What steps print: its terminal colours as classes, live output as it comes. */
const MOST_PIECES = 2000;

const CODES = {1: "b", 31: "r", 32: "g", 33: "y", 91: "r", 92: "g", 93: "y"};

/* Appends text with its terminal colours as classes; every other control sequence is dropped. */
function write(out, text, stream) {
  const parts = text.replace(/\x1b\][^\x07\x1b]*(\x07|\x1b\\)?/g, "").split(/\x1b\[([0-9;]*)([A-Za-z])/);
  let style = stream === "stderr" ? "e" : "";
  for (let n = 0; n < parts.length; n += 3) {
    const plain = parts[n].replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
    if (plain) {
      const span = document.createElement("span");
      if (style) span.className = style;
      span.textContent = plain;
      out.append(span);
    }
    if (parts[n + 2] === "m") style = CODES[parts[n + 1].split(";").at(-1)] ?? (stream === "stderr" ? "e" : "");
  }
}

const reading = new Set();
/* Reads on; `grown` is called after more of it is shown. */
async function follow(out, grown) {
  const step = out.closest("[data-step]"), name = `${step.dataset.attempt}/${step.dataset.step}`;
  if (reading.has(name)) { out.dataset.again = "1"; return; }
  reading.add(name);
  try {
    do {
      delete out.dataset.again;
      const query = new URLSearchParams({attempt: step.dataset.attempt, step: step.dataset.step, after: out.dataset.after});
      const answer = await fetch(`/cards/${out.closest("[data-key]").dataset.key}/output?${query}`);
      if (!answer.ok) break;
      const {pieces, last} = await answer.json();
      const stuck = out.scrollHeight - out.scrollTop - out.clientHeight < 24;
      pieces.forEach(piece => write(out, piece.text, piece.stream));
      while (out.childNodes.length > MOST_PIECES) out.firstChild.remove();
      out.dataset.after = last;
      if (stuck) out.scrollTop = out.scrollHeight;
      if (pieces.length >= 500) out.dataset.again = "1";
      grown?.();
    } while (out.dataset.again);
  } finally {
    reading.delete(name);
  }
}
// While the server is away the next event, or the clock, asks again.
export const followAll = grown => document.querySelectorAll("[data-output]").forEach(out => follow(out, grown).catch(() => {}));

/* Output that came with the page: its terminal colours as classes, too. */
export function colour() {
  for (const out of document.querySelectorAll("pre[data-plain]")) {
    delete out.dataset.plain;
    const texts = [...out.childNodes].filter(node => node.nodeType === 3 && node.textContent.includes("\x1b"));
    for (const node of texts) {
      const holder = document.createElement("span");
      write(holder, node.textContent, "");
      node.replaceWith(holder);
    }
  }
}
