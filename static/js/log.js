/* The output of a step or an attempt, of any length: only the lines in sight are in the page, the
   rest is fetched as one comes to it. A `[data-log]` element names what it shows: data-key,
   data-attempt and data-only, a step (none: all of the attempt's). The viewer's parts come from the page's
   <template id="log-parts">. */
import {announce, toast} from "./api.js";
import {singleKeys} from "./commands.js";
import {dress, runs} from "./terminal.js";
import {gettext, ngettext} from "./words.js";

const AHEAD = 20, LEAST = 200, MOST = 1000, KEPT = 5000, GROUP = 256;
// Browsers draw nothing taller than some 17 million pixels; past this the bar is scaled.
const TALLEST = 8_000_000;
const MOST_MATCHES = 100_000, MOST_COPIED = 10_000;

const viewers = new Map();
const escaped = text => text.replace(/[.*+?^${}()|[\]\\\/]/g, "\\$&");

class Viewer {
  constructor(root) {
    this.root = root;
    const {key, attempt, only: step} = root.dataset;
    this.base = `/api/v1/cards/${encodeURIComponent(key)}/attempts/${attempt}/log`;
    this.step = step === undefined ? {} : {step};
    this.small = root.dataset.small !== undefined;
    this.lines = new Map();
    this.rows = new Map();
    this.total = 0;
    this.ended = false;
    this.stale = 0;
    this.mark = null;
    this.words = null;
    this.matches = [];
    this.extra = new Map();
    this.sums = [];
    const parts = document.getElementById("log-parts").content;
    root.append(...[...parts.children].filter(part => !this.small || !part.matches(".lbar")).map(part => document.importNode(part, true)));
    const one = name => root.querySelector(name);
    Object.assign(this, {body: one(".lbody"), size: one(".lsize"), list: one(".lrows"), pill: one(".lpill"), count: one("[data-count]"), empty: one(".lempty")});
    this.body.setAttribute("aria-label", root.dataset.label ?? "");
    for (const input of root.querySelectorAll(".lbar input")) input.removeAttribute("id");
    this.wrap(localStorage.getItem("log-wrap") === "on");
    this.wire(one);
    this.follow = !root.dataset.from;
    const place = /^#L(\d+)(?:-L(\d+))?$/.exec(root.dataset.linked !== undefined ? location.hash : "");
    if (place) { this.follow = false; this.mark = [Number(place[1]), Number(place[2] ?? place[1])]; }
    this.begin(place ? Number(place[1]) : 0);
  }

  wire(one) {
    const on = (name, kind, act) => one(name)?.addEventListener(kind, act);
    this.body.addEventListener("scroll", () => this.scrolled(), {passive: true});
    this.body.addEventListener("click", event => this.clicked(event));
    this.root.addEventListener("keydown", event => this.key(event));
    on("[data-find]", "input", () => { clearTimeout(this.soon); this.soon = setTimeout(() => this.find(), 200); });
    on("[data-case]", "click", event => { press(event.currentTarget); this.find(); });
    on("[data-next]", "click", () => this.step_(1));
    on("[data-previous]", "click", () => this.step_(-1));
    on("[data-goto]", "submit", event => { event.preventDefault(); event.stopPropagation(); this.goto(one("[data-goto] input").value); });
    on("[data-wrap]", "click", () => { this.wrap(!this.wrapped); localStorage.setItem("log-wrap", this.wrapped ? "on" : "off"); this.reset(); });
    on("[data-follow]", "click", () => this.following(!this.follow));
    on("[data-copy]", "click", () => this.copy());
    this.pill.addEventListener("click", () => { this.following(true); this.body.focus({preventScroll: true}); });
    const raw = one("[data-raw]");
    if (raw) raw.href = `${this.base}/raw?${new URLSearchParams(this.step)}`;
    const whole = one("[data-whole]");
    if (whole) { whole.href = this.address(); whole.hidden = this.root.dataset.linked !== undefined; }
    this.resized = new ResizeObserver(() => {
      if (this.wrapped && this.width !== this.body.clientWidth) this.reset();
      else this.draw();
      this.width = this.body.clientWidth;
    });
    this.resized.observe(this.body);
    if (this.root.dataset.linked !== undefined) addEventListener("hashchange", () => {
      const place = /^#L(\d+)(?:-L(\d+))?$/.exec(location.hash);
      if (place && this.root.isConnected) this.show(Number(place[1]), [Number(place[1]), Number(place[2] ?? place[1])]);
    });
  }

  /* ---- reading ------------------------------------------------------------------------------ */

  async begin(first) {
    try {
      await this.read(first > LEAST / 2 ? {line: first - LEAST / 2, limit: LEAST} : first ? {line: 1, limit: LEAST} : {tail: LEAST});
    } catch (error) {
      return this.failed(error, () => this.begin(first));
    }
    if (first) {
      this.root.scrollIntoView({block: "end"});
      this.show(first, this.mark);
    }
    else if (this.ended && !this.small) { this.follow = false; this.draw(); }
    else this.following(true);
    this.buttons();
  }

  async read(asked, signal) {
    const answer = await fetch(`${this.base}?${new URLSearchParams({...this.step, ...asked})}`, {signal});
    if (!answer.ok) throw new Error(answer.status);
    const told = await answer.json();
    if (told.results.length && told.results.at(-1).line >= this.stale) this.stale = 0;
    for (const line of told.results) this.lines.set(line.line, line);
    this.total = Math.max(this.total, told.total_lines);
    this.ended = told.ended;
    this.root.dataset.total = this.total;
    this.empty.hidden = this.total > 0;
    this.forget();
  }

  /* Lines far from where one is are fetched again when wanted. */
  forget() {
    if (this.lines.size <= KEPT) return;
    const middle = this.top ?? this.total;
    const far = [...this.lines.keys()].sort((a, b) => Math.abs(b - middle) - Math.abs(a - middle));
    for (const n of far.slice(0, this.lines.size - KEPT * .8)) this.lines.delete(n);
  }

  /* Has the lines from `a` to `b` fetched, and draws them when they are there. */
  async need(a, b) {
    const missing = n => !this.lines.has(n) || n === this.stale;
    while (a <= b && !missing(a)) a++;
    if (a > b) return;
    while (!missing(b)) b--;
    if (this.busy) { this.again = true; return; }
    this.busy = true;
    try {
      const spare = Math.max(0, LEAST - (b - a + 1));
      const from = Math.max(1, a - (missing(a - 1) && a > 1 ? Math.floor(spare / 2) : 0));
      await this.read({line: from, limit: Math.min(MOST, Math.max(LEAST, b - from + 1))});
    } catch (error) {
      this.failed(error, () => this.draw());
      return;
    } finally {
      this.busy = false;
    }
    this.again = false;
    this.draw();
  }

  failed(error, again) {
    if (error.message === "404" || error.message === "403") return;
    setTimeout(() => { if (this.root.isConnected) again(); }, 2000);
  }

  /* More was printed. */
  async grown() {
    if (this.growing) { this.more = true; return; }
    this.growing = true;
    try {
      do {
        this.more = false;
        const before = this.total;
        this.stale = before;
        await this.read(this.follow ? {tail: LEAST} : {line: Math.max(1, before), limit: 1});
        if (this.follow && before && !this.lines.has(before)) this.stale = 0;
        const added = this.total - before;
        if (added) this.tell(added);
        if (this.follow) this.toEnd();
        this.draw();
        this.buttons();
        if (this.words) this.look(this.turn);
        this.root.dispatchEvent(new CustomEvent("holdfast:grown", {bubbles: true}));
        await new Promise(rest => setTimeout(rest, 150));
      } while (this.more && this.root.isConnected);
    } catch (error) {
      this.failed(error, () => this.grown());
    } finally {
      this.growing = false;
    }
  }

  /* Says at most every five seconds how much came, to whoever is in here. */
  tell(added) {
    this.untold = (this.untold ?? 0) + added;
    if (!this.root.contains(document.activeElement) || Date.now() - (this.told ?? 0) < 5000) return;
    announce(ngettext("{n} new line", "{n} new lines", this.untold));
    this.told = Date.now();
    this.untold = 0;
  }

  /* ---- places ------------------------------------------------------------------------------- */

  get height() { return this.line ??= parseFloat(getComputedStyle(this.body).lineHeight) || 18; }
  get whole() { return this.total * this.height + this.sums.reduce((sum, n) => sum + (n ?? 0), 0); }
  get scale() {
    const view = this.body.clientHeight, whole = this.whole;
    return whole > TALLEST ? (whole - view) / (TALLEST - view) : 1;
  }

  /* How far down line `n` begins, those before it that are wrapped counted as far as seen. */
  offset(n) {
    const group = Math.floor((n - 1) / GROUP);
    let y = (n - 1) * this.height;
    for (let g = 0; g < group; g++) y += this.sums[g] ?? 0;
    if (this.sums[group]) for (let k = group * GROUP + 1; k < n; k++) y += this.extra.get(k) ?? 0;
    return y;
  }

  at(y) {
    let g = 0, from = 0;
    for (; (g + 1) * GROUP < this.total; g++) {
      const tall = GROUP * this.height + (this.sums[g] ?? 0);
      if (from + tall > y) break;
      from += tall;
    }
    let n = g * GROUP + 1;
    if (!this.sums[g]) return Math.max(1, Math.min(this.total, n + Math.floor((y - from) / this.height)));
    for (; n < this.total; n++) {
      from += this.height + (this.extra.get(n) ?? 0);
      if (from > y) break;
    }
    return n;
  }

  measured(n, tall) {
    const more = Math.max(0, tall - this.height), was = this.extra.get(n) ?? 0;
    if (Math.abs(more - was) < .5) return 0;
    more ? this.extra.set(n, more) : this.extra.delete(n);
    const group = Math.floor((n - 1) / GROUP);
    this.sums[group] = (this.sums[group] ?? 0) + more - was;
    return more - was;
  }

  /* Everything may be of another height now; what one looks at stays: the match or marked line if
     it is in sight, else the line at the top. */
  reset() {
    const top = this.top ?? 1, end = this.at((this.body.scrollTop + this.body.clientHeight) * this.scale);
    const held = [this.hit, this.mark?.[0]].find(n => n >= top && n <= end);
    this.extra.clear();
    this.sums = [];
    this.line = undefined;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.draw();
    if (this.follow) this.toEnd();
    else if (held) return this.show(held);
    else this.to(this.offset(top));
    this.draw();
  }

  to(y) {
    this.size.style.height = `${Math.min(TALLEST, this.whole)}px`;
    this.body.scrollTop = y / this.scale;
    this.was = this.body.scrollTop;
  }
  toEnd() { this.to(this.whole); }

  scrolled() {
    const {scrollTop, scrollHeight, clientHeight} = this.body;
    const end = scrollHeight - scrollTop - clientHeight < this.height * 1.5;
    if (scrollTop < this.was - 1 && !end) this.follow = false;
    else if (end && !this.ended) this.follow = true;
    this.was = scrollTop;
    this.buttons();
    if (!this.drawing) this.drawing = requestAnimationFrame(() => { this.drawing = 0; this.draw(); });
  }

  following(on) {
    this.follow = on;
    if (on) { this.toEnd(); this.draw(); this.toEnd(); }
    this.buttons();
  }

  buttons() {
    const button = this.root.querySelector("[data-follow]");
    if (button) {
      button.setAttribute("aria-pressed", this.follow && !this.ended);
      button.hidden = this.ended;
    }
    this.pill.hidden = this.follow || this.ended || !this.total;
  }

  /* ---- drawing ------------------------------------------------------------------------------ */

  draw() {
    if (!this.root.isConnected) return this.end();
    if (!this.total || !this.body.clientWidth) return;
    this.fit();
    const view = this.body.clientHeight;
    this.size.style.height = `${Math.min(TALLEST, this.whole)}px`;
    this.list.style.setProperty("--digits", Math.max(3, `${this.total}`.length));
    const y = this.body.scrollTop * this.scale;
    this.top = this.at(y);
    const from = Math.max(1, this.top - AHEAD), last = Math.min(this.total, this.at(y + view) + AHEAD);
    for (const [n, row] of this.rows) if (n < from || n > last) { row.remove(); this.rows.delete(n); }
    let next = null;
    for (let n = last; n >= from; n--) {
      let row = this.rows.get(n);
      const line = this.lines.get(n);
      if (!row || row.holds !== line || row.words !== this.words) {
        const fresh = this.row(n, line);
        row ? row.replaceWith(fresh) : this.list.insertBefore(fresh, next);
        this.rows.set(n, row = fresh);
      }
      row.classList.toggle("marked", !!this.mark && n >= this.mark[0] && n <= this.mark[1]);
      row.classList.toggle("hit", n === this.hit);
      row.setAttribute("aria-setsize", this.total);
      next = row;
    }
    let moved = 0;
    if (this.wrapped) {
      for (const [n, row] of this.rows) {
        const more = this.measured(n, row.offsetHeight);
        if (n < this.top) moved += more;
      }
      this.size.style.height = `${Math.min(TALLEST, this.whole)}px`;
    }
    if (this.wrapped && this.follow) this.toEnd();
    else if (moved) this.to(y + moved);
    const shift = this.offset(from) - this.body.scrollTop * this.scale + this.body.scrollTop;
    this.list.style.transform = `translateY(${shift}px)`;
    if (!this.wrapped) {
      this.wide = Math.max(this.wide ?? 0, this.list.scrollWidth);
      this.list.style.minWidth = `${this.wide}px`;
    } else this.list.style.minWidth = "";
    this.reading = this.need(from, last);
  }

  /* A short one takes no more than its own place. */
  fit() {
    if (this.root.classList.contains("tall")) return;
    const tall = Math.min(parseFloat(getComputedStyle(this.body).maxHeight), this.whole + this.body.offsetHeight - this.body.clientHeight);
    if (this.tall !== tall) this.body.style.height = `${this.tall = tall}px`;
  }

  row(n, line) {
    const row = document.createElement("div"), number = document.createElement("a"), text = document.createElement("span");
    row.className = line ? `lrow ${line.stream}` : "lrow wait";
    row.setAttribute("role", "listitem");
    row.setAttribute("aria-posinset", n);
    Object.assign(row, {holds: line, words: this.words});
    number.className = "ln";
    number.textContent = n;
    number.tabIndex = -1;
    number.href = this.address(n);
    if (line) number.title = `${new Date(line.at).toLocaleString()} ${line.step}`;
    text.className = "lt";
    if (line) this.fill(text, line);
    row.append(number, text);
    return row;
  }

  fill(holder, line) {
    const shown = runs(line.text, line.style), whole = shown.map(run => run[0]).join("");
    const hits = this.words ? [...whole.matchAll(this.words)].map(hit => [hit.index, hit.index + hit[0].length]) : [];
    let at = 0;
    for (const [text, style] of shown) {
      const span = document.createElement("span"), end = at + text.length;
      if (style) dress(span, style);
      let from = at;
      for (const [a, b] of hits) {
        if (b <= from || a >= end) continue;
        if (a > from) span.append(whole.slice(from, a));
        const found = document.createElement("mark");
        found.textContent = whole.slice(Math.max(a, from), Math.min(b, end));
        span.append(found);
        from = Math.min(b, end);
      }
      span.append(whole.slice(from, end));
      holder.append(span);
      at = end;
    }
  }

  address(n) {
    const {key, attempt, only: step} = this.root.dataset, query = new URLSearchParams({tab: "log", attempt, ...(step === undefined ? {} : {step})});
    return `/cards/${encodeURIComponent(key)}?${query}${n ? `#L${n}` : ""}`;
  }

  /* ---- going -------------------------------------------------------------------------------- */

  /* Brings line `n` into the middle. */
  show(n, mark) {
    n = Math.max(1, Math.min(this.total, n));
    this.follow = false;
    if (mark) this.mark = mark;
    for (let turn = 0; turn < (this.wrapped ? 3 : 1); turn++) {
      this.to(Math.max(0, this.offset(n) - this.body.clientHeight / 2 + this.height));
      this.draw();
    }
    this.buttons();
  }

  goto(text) {
    const n = Number(text.trim().replace(/^L/i, ""));
    if (!Number.isInteger(n) || n < 1 || !this.total) return;
    const to = Math.min(n, this.total);
    this.show(to, [to, to]);
    this.link();
    announce(gettext("Line {n} of {total}", {n: to, total: this.total}));
    this.body.focus({preventScroll: true});
  }

  link() {
    if (this.root.dataset.linked === undefined) return;
    const [a, b] = this.mark;
    history.replaceState(history.state, "", `#L${a}${b > a ? `-L${b}` : ""}`);
  }

  clicked(event) {
    const number = event.target.closest(".ln");
    if (!number || event.ctrlKey || event.metaKey || event.button) return;
    if (this.root.dataset.linked === undefined) return;  // leads to the page of this log
    event.preventDefault();
    const n = Number(number.textContent);
    this.mark = event.shiftKey && this.mark ? [Math.min(n, this.mark[0]), Math.max(n, this.mark[0])] : [n, n];
    this.link();
    this.draw();
  }

  key(event) {
    const typing = event.target.matches("input"), {key} = event;
    const does = act => { event.preventDefault(); event.stopPropagation(); act(); };
    if (typing) {
      if (key === "Escape") does(() => { this.clear(); this.body.focus({preventScroll: true}); });
      else if (key === "Enter" && event.target.matches("[data-find]")) does(() => this.step_(event.shiftKey ? -1 : 1));
      return;
    }
    const find = this.root.querySelector("[data-find]");
    if ((event.ctrlKey || event.metaKey) && !event.altKey && key.toLowerCase() === "f" && find) return does(() => enter(find));
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button, a")) return;
    if (key === "End") return does(() => { this.following(true); if (this.ended) this.follow = false; });
    if (key === "Home") return does(() => this.show(1));
    if (key === "F3") return does(() => this.step_(event.shiftKey ? -1 : 1));
    if (key === "Escape" && this.words) return does(() => this.clear());
    if (!singleKeys() || this.small) return;
    const acts = {
      "/": () => enter(find),
      n: () => this.step_(1),
      N: () => this.step_(-1),
      ":": () => enter(this.root.querySelector("[data-goto] input")),
      w: () => this.root.querySelector("[data-wrap]").click(),
      f: () => this.ended || this.following(!this.follow),
      y: () => this.copy(),
    };
    if (acts[key]) does(acts[key]);
  }

  wrap(on) {
    this.wrapped = on;
    this.root.classList.toggle("wrapped", on);
    this.root.querySelector("[data-wrap]")?.setAttribute("aria-pressed", on);
  }

  /* ---- searching ---------------------------------------------------------------------------- */

  clear() {
    const input = this.root.querySelector("[data-find]");
    if (!input) return;
    input.value = "";
    this.find();
  }

  /* Looks for the words in all of it, wherever one is. */
  find() {
    const text = this.root.querySelector("[data-find]").value;
    const minds = this.root.querySelector("[data-case]").getAttribute("aria-pressed") === "true";
    this.turn = (this.turn ?? 0) + 1;
    this.matches = [];
    this.hit = 0;
    this.looked = 1;
    try { this.words = text ? new RegExp(escaped(text), minds ? "gu" : "giu") : null; } catch { this.words = null; }
    this.asked = {q: text, case: minds};
    this.draw();
    this.number(1);
    if (this.words) { this.seek = this.top ?? 1; this.look(this.turn); }
  }

  async look(turn) {
    if (this.looking === turn) { this.lookMore = true; return; }
    this.looking = turn;
    try {
      do {
        this.lookMore = false;
        // The last line may have got longer since.
        if (this.matches.at(-1) >= this.looked) this.matches.pop();
        let line = this.looked;
        while (line && this.matches.length < MOST_MATCHES) {
          const until = this.total;
          const answer = await fetch(`${this.base}/matches?${new URLSearchParams({...this.step, ...this.asked, line})}`);
          if (!answer.ok) throw new Error(answer.status);
          const told = await answer.json();
          if (turn !== this.turn) return;
          for (const n of told.results) this.matches.push(n);
          line = told.next_line;
          this.looked = line ?? Math.max(1, until);
          if (this.seek && this.matches.some(n => n >= this.seek)) this.first();
          this.number(line);
        }
        if (this.seek && this.matches.length) this.first();
        this.seek = 0;
        this.number();
      } while (this.lookMore);
    } catch (error) {
      if (turn === this.turn) this.count.textContent = gettext("The search failed; try again.");
    } finally {
      if (this.looking === turn) this.looking = 0;
    }
  }

  first() {
    const n = this.matches.find(match => match >= this.seek) ?? this.matches[0];
    this.seek = 0;
    this.hit = n;
    this.show(n);
  }

  async step_(by) {
    if (!this.words) { this.root.querySelector("[data-find]")?.focus(); return; }
    if (!this.matches.length) return;
    let at = this.matches.findIndex(n => n >= (this.hit || this.top));
    if (at < 0) at = 0;
    else if (this.matches[at] === this.hit) at += by;
    else if (by < 0) at--;
    const n = this.matches.at(at % this.matches.length);
    this.hit = n;
    this.show(n);
    this.number();
    await this.reading;
    if (this.hit === n) announce(gettext("Match {at} of {all}, line {n}: {text}", {at: this.matches.indexOf(n) + 1, all: this.matches.length, n, text: this.rows.get(n)?.querySelector(".lt").textContent.slice(0, 200) ?? ""}));
  }

  number(going) {
    if (!this.count) return;
    const all = this.matches.length, at = this.matches.indexOf(this.hit) + 1;
    const many = all >= MOST_MATCHES || going ? `${all}+` : `${all}`;
    this.count.textContent = !this.words ? "" : all || going ? (going && !all ? "…" : at ? gettext("{at} of {all}", {at, all: many}) : many) : gettext("No match");
    for (const button of this.root.querySelectorAll("[data-next], [data-previous]")) button.disabled = !all;
  }

  /* ---- taking along --------------------------------------------------------------------------- */

  /* Copies the marked lines, else all of it as far as a clipboard should hold. */
  async copy() {
    const [a, b] = this.mark ?? [1, this.total], last = Math.min(b, a + MOST_COPIED - 1), text = [];
    try {
      for (let line = a; line && line <= last;) {
        const answer = await fetch(`${this.base}?${new URLSearchParams({...this.step, line, limit: Math.min(MOST, last - line + 1), plain: true})}`);
        const told = await answer.json();
        text.push(...told.results.map(one => one.text));
        line = told.next_line;
      }
      await navigator.clipboard.writeText(`${text.join("\n")}\n`);
    } catch {
      toast(gettext("It could not be copied; download it instead."));
      return;
    }
    const said = ngettext("{n} line copied.", "{n} lines copied.", text.length);
    toast(last < b ? `${said} ${gettext("The rest is in the download.")}` : said);
    announce(said);
  }

  end() {
    this.resized.disconnect();
    viewers.delete(this.root);
  }
}

const enter = input => { input.focus(); input.select(); };
const press = button => button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");

/* Gives every log in sight its viewer. */
export function logs(within = document) {
  for (const root of viewers.keys()) if (!root.isConnected) viewers.get(root).end();
  for (const root of within.querySelectorAll("[data-log]:not([data-ready])")) {
    if (root.closest("details:not([open])")) continue;
    root.dataset.ready = "";
    viewers.set(root, new Viewer(root));
  }
}

/* More was printed by these attempts' steps; without any, whatever still runs may have grown. */
export function grown(printed) {
  for (const [root, viewer] of viewers) {
    if (!root.isConnected || viewer.ended) continue;
    const {attempt, only: step} = root.dataset;
    if (!printed || printed.some(p => String(p.attempt) === attempt && (step === undefined || p.step === step))) viewer.grown();
  }
}

document.addEventListener("toggle", event => { if (event.target.open) logs(event.target); }, true);
