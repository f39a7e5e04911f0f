/* What a terminal would show of a line: its text in runs of one style, and the style it leaves on.
   checkpoints/terminal.py finds by the same rules; tests/terminal.json holds both to them. */
const MOVES = String.raw`\r|\x08|\x1b\[[0-2]?K|\x1b\[[01]?G`;
const UNSEEN = String.raw`\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]`;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/, MOVE = new RegExp(MOVES), STYLE = /^\x1b\[([0-9;:]*)m$/;
const OFF = {22: [1, 2], 23: [3], 24: [4], 27: [7], 28: [8], 29: [9]};
const MAX_STYLE_CHARS = 100;

/* Colours past the sixteen: `5;n` or `2;r;g;b`, empty where it is none. */
function colour(given, following) {
  const next = () => following.shift() ?? "", kind = given ? given[0] : next(), wanted = {5: 1, 2: 3}[kind] ?? 0;
  const numbers = given ? (wanted ? given.slice(1).slice(-wanted) : []) : Array.from({length: wanted}, next);
  const values = numbers.map(n => n.length <= 3 ? Number(n) : 256);
  return wanted && values.length === wanted && values.every(n => n <= 255) ? [kind, ...values].join(";") : "";
}

function apply(on, codes) {
  const parts = codes.split(";");
  while (parts.length) {
    const [first, ...rest] = parts.shift().split(":"), code = Number(first);
    if (code === 0) on.clear();
    else if ([1, 2, 3, 4, 7, 8, 9].includes(code)) {
      if (code === 4 && rest.join(":") === "0") on.delete("a4");
      else on.set(`a${code}`, `${code}`);
    } else if (code === 21) on.set("a4", "4");
    else if (OFF[code]) OFF[code].forEach(begun => on.delete(`a${begun}`));
    else if ([38, 48, 58].includes(code)) {
      const found = colour(rest.length ? rest : null, parts);
      if (found && code !== 58) on.set(code === 38 ? "f" : "g", `${code};${found}`);
    } else if (code === 39 || code === 49) on.delete(code === 39 ? "f" : "g");
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) on.set("f", `${code}`);
    else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) on.set("g", `${code}`);
  }
}

const begun = style => { const on = new Map(); if (style) apply(on, style); return on; };
function said(on) {
  const codes = [...on.keys()].sort().map(name => on.get(name)).join(";");
  return codes.length <= MAX_STYLE_CHARS ? codes : "";
}

/* Returns `[[text, style], …]` of a line that begins in `style`. */
export function runs(text, style = "") {
  if (!CONTROLS.test(text)) return text ? [[text, style]] : [];
  text = text.replace(/\r+$/, "");
  const on = begun(style), tokens = new RegExp(`(${MOVES})|${UNSEEN}`, "g"), moves = MOVE.test(text);
  const shown = [], cells = [];
  let column = 0, written = 0, now = said(on);
  const write = part => {
    if (!part) return;
    if (!moves) { shown.push([part, now]); return; }
    while (cells.length < column) cells.push([" ", ""]);
    for (const char of part) cells[column++] = [char, now];
  };
  for (const token of text.matchAll(tokens)) {
    write(text.slice(written, token.index));
    written = token.index + token[0].length;
    const move = token[1], graphic = !move && STYLE.exec(token[0]);
    if (graphic) { apply(on, graphic[1]); now = said(on); }
    else if (!move) continue;
    else if (move === "\b") column = Math.max(0, column - 1);
    else if (!move.endsWith("K")) column = 0;
    else if (move === "\x1b[2K") cells.length = 0;
    else if (move === "\x1b[1K") cells.fill([" ", ""], 0, column + 1);
    else cells.length = Math.min(cells.length, column);
  }
  write(text.slice(written));
  for (const [char, worn] of cells) {
    if (shown.at(-1)?.[1] === worn) shown.at(-1)[0] += char;
    else shown.push([char, worn]);
  }
  return shown;
}

/* The style that is on after the text. */
export function styleAfter(style, text) {
  if (!text.includes("\x1b[")) return style;
  const on = begun(style);
  for (const [, codes] of text.matchAll(/\x1b\[([0-9;:]*)m/g)) apply(on, codes);
  return said(on);
}

const CUBE = [0, 95, 135, 175, 215, 255];
function rgb(n) {
  if (n >= 232) { const grey = 8 + (n - 232) * 10; return [grey, grey, grey]; }
  n -= 16;
  return [CUBE[Math.floor(n / 36)], CUBE[Math.floor(n / 6) % 6], CUBE[n % 6]];
}

/* Makes the span look so: classes for what the theme has, properties for other colours. */
export function dress(span, style) {
  const parts = style.split(";").map(Number), names = [];
  const extended = letter => {
    const kind = parts.shift(), n = kind === 5 ? parts.shift() : 0;
    if (kind === 5 && n < 16) { names.push(`${letter}${n}`); return; }
    names.push(`${letter}x`);
    span.style.setProperty(`--${letter}`, `rgb(${(kind === 5 ? rgb(n) : parts.splice(0, 3)).join(" ")})`);
  };
  while (parts.length) {
    const code = parts.shift();
    if (code < 10) names.push(`a${code}`);
    else if (code === 38) extended("f");
    else if (code === 48) extended("g");
    else names.push(code < 40 ? `f${code - 30}` : code < 50 ? `g${code - 40}` : code < 100 ? `f${code - 82}` : `g${code - 92}`);
  }
  span.className = names.join(" ");
}

/* Text of several lines with its colours. */
export function coloured(text) {
  const holder = document.createElement("span");
  let style = "";
  holder.className = "lt";
  for (const line of text.split(/(?<=\n)/)) {
    for (const [part, worn] of runs(line.replace(/\r?\n$/, ""), style)) {
      const span = document.createElement("span");
      if (worn) dress(span, worn);
      span.textContent = part;
      holder.append(span);
    }
    if (line.endsWith("\n")) holder.append("\n");
    style = styleAfter(style, line);
  }
  return holder;
}
