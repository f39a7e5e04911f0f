/* Making a board, and its settings: forms that write through the API. */
import {announce, call, newKey, sent, toast} from "./api.js";
import {gettext} from "./words.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/* ---- a new board ------------------------------------------------------------------------------ */

const fresh = $("#new-board");
if (fresh) {
  const {name, key, repository} = fresh.elements, taken = new Set(fresh.dataset.taken.split(" "));
  let own = false, named = false, once = newKey();
  /* Initials of several words, or the beginning of one; with a number while it is taken. */
  const suggested = text => {
    const words = text.normalize("NFD").replace(/[\u0300-\u036f]/g, "").toUpperCase().match(/[A-Z0-9]+/g) ?? [];
    let found = (words.length > 2 ? words.map(word => word[0]).join("") : words.join("").slice(0, 4)).replace(/^[0-9]+/, "").slice(0, 6);
    if (found.length === 1) found += "B";
    for (let n = 2, base = found; taken.has(found); n++) found = `${base.slice(0, 8)}${n}`;
    return found;
  };
  name.addEventListener("input", () => { named = !!name.value; if (!own) key.value = suggested(name.value); once = newKey(); });
  key.addEventListener("input", () => { own = !!key.value; key.value = key.value.toUpperCase().replace(/[^A-Z0-9]/g, ""); once = newKey(); });
  repository.addEventListener("change", () => {
    const last = repository.value.trim().replace(/\/+$/, "").replace(/\.git$/, "").split(/[/:]/).pop();
    if (last && !named) { name.value = last; if (!own) key.value = suggested(last); }
  });
  fresh.addEventListener("submit", async event => {
    event.preventDefault();
    const body = {name: name.value, key: key.value, repository: repository.value, template: fresh.elements.template.value};
    const made = await sent(fresh, () => call("POST", "/boards", body, {"Idempotency-Key": once}));
    if (made) location.assign(`/boards/${made.key}?tour=1`);
    else once = newKey();
  });
}

/* ---- settings ------------------------------------------------------------------------------------ */

const settings = $("#settings");
if (settings) {
  const path = `/boards/${settings.dataset.board}`, form = $("[data-board-form]");
  const saved = board => { form.dataset.version = board.version; say(gettext("Saved.")); };
  const say = text => { announce(text); toast(text, {seconds: 3}); };
  const patch = changes => call("PATCH", path, changes, {"If-Match": `"${form.dataset.version}"`});

  form.addEventListener("submit", async event => {
    event.preventDefault();
    const {name, repository, pull, max_attempts: attempts, lease_seconds: lease, review_required: review, start_from_parents: parents, answer_by_link: link, enforce_dead_ends: deadEnds, enforce_decisions: decisions, test_command: tests} = form.elements;
    const board = await sent(form, async () => {
      const {defaults} = await call("GET", path);
      for (const own of [form.elements.same_failures, form.elements.follow_ups]) {
        if (own.value) defaults[own.name] = Number(own.value);
        else delete defaults[own.name];
      }
      if (tests.value.trim()) defaults.test_command = tests.value;
      else delete defaults.test_command;
      return patch({name: name.value, repository: repository.value, pull: pull.value, answer_by_link: link.checked, enforce_dead_ends: deadEnds.checked,
        defaults: {...defaults, max_attempts: Number(attempts.value), lease_seconds: Number(lease.value), review_required: review.checked, start_from_parents: parents.checked, enforce_decisions: decisions.checked}});
    });
    if (board) saved(board);
  });

  settings.addEventListener("budget-saved", ({detail}) => { if (detail.path.startsWith("/boards/")) form.dataset.version = detail.version; });
  // Parts of the page that know of more than boards do.
  for (const place of $$("[data-load]", settings)) {
    fetch(place.dataset.load).then(answer => answer.ok ? answer.text() : "").then(text => { place.outerHTML = text; }).catch(() => {});
  }
  settings.addEventListener("submit", async event => {
    const rule = event.target.closest("[data-storage-form]");
    if (!rule) return;
    event.preventDefault();
    const number = field => field.value === "" ? null : Number(field.value);
    const {keep_last: last, keep_days: days} = rule.elements;
    if (await sent(rule, () => call("PATCH", `${path}/storage`, {keep_last: number(last), keep_days: number(days)}))) say(gettext("Saved."));
  });

  const commands = $("[data-commands-form]");
  commands.addEventListener("submit", async event => {
    event.preventDefault();
    const {allow_commands: run, allow_network: network, memory_mb: memory, processes, output_mb: output, keep_ignored: ignored} = commands.elements;
    const board = await sent(commands, async () => {
      const {defaults} = await call("GET", path);
      for (const bound of [memory, processes, output]) {
        if (bound.value) defaults[bound.name] = Number(bound.value);
        else delete defaults[bound.name];
      }
      const paths = ignored.value.split("\n").map(path => path.trim()).filter(Boolean);
      if (paths.length) defaults.keep_ignored = paths;
      else delete defaults.keep_ignored;
      return patch({defaults, ...(run.disabled ? {} : {allow_commands: run.checked}), ...(network.disabled ? {} : {allow_network: network.checked})});
    });
    if (board) saved(board);
  });

  const columns = $("[data-columns-form]"), list = $(".cols-edit", columns);
  columns.addEventListener("submit", async event => {
    event.preventDefault();
    const wanted = $$("li", list).map(row => ({
      ...(row.dataset.id ? {id: row.dataset.id} : {kind: $("[name=kind]", row).value}),
      name: $("[name=name]", row).value, wip_limit: Number($("[name=wip_limit]", row).value) || null}));
    const board = await sent(columns, () => patch({columns: wanted}));
    if (!board) return;
    $$("li", list).forEach((row, n) => { row.dataset.id = board.columns[n].id; $("[name=kind]", row).disabled = true; });
    saved(board);
  });
  columns.addEventListener("click", event => {
    const row = event.target.closest("li");
    if (event.target.closest("[data-earlier]") && row.previousElementSibling) row.previousElementSibling.before(row);
    else if (event.target.closest("[data-later]") && row.nextElementSibling) row.nextElementSibling.after(row);
    else if (event.target.closest("[data-remove]")) {
      ($("input", row.nextElementSibling ?? row.previousElementSibling ?? columns) ?? columns).focus();
      row.remove();
      announce(gettext("Removed; save to keep it so."));
      return;
    } else if (event.target.closest("[data-add-column]")) {
      const copy = list.lastElementChild.cloneNode(true);
      delete copy.dataset.id;
      for (const field of $$("input", copy)) field.value = "";
      $("[name=kind]", copy).disabled = false;
      $("[name=kind]", copy).value = "in_progress";
      for (const [mark, words] of [["earlier", gettext("New column: further left")], ["later", gettext("New column: further right")], ["remove", gettext("Remove the new column")]]) $(`[data-${mark}]`, copy).setAttribute("aria-label", words);
      list.append(copy);
      $("input", copy).focus();
      return;
    } else return;
    event.target.closest("button").focus();
    announce(gettext("Place {n} of {all}; save to keep it so.", {n: $$("li", list).indexOf(row) + 1, all: list.children.length}));
  });

  $("[data-member-form]")?.addEventListener("submit", async event => {
    event.preventDefault();
    const {user, role} = event.target.elements;
    if (await sent(event.target, () => call("POST", `${path}/members`, {user: user.value, role: role.value}))) location.reload();
  });
  settings.addEventListener("change", async event => {
    const select = event.target.closest("[data-role]");
    if (!select) return;
    const {user} = select.dataset;
    try { await call("POST", `${path}/members`, {user, role: select.value}); say(gettext("Saved.")); }
    catch (refusal) { announce(refusal.message, true); toast(refusal.message); select.value = [...select.options].find(option => option.defaultSelected)?.value; }
  });
  settings.addEventListener("click", async event => {
    const member = event.target.closest("[data-remove-member]")?.closest("li"), token = event.target.closest("[data-revoke]")?.closest("li");
    if (!member && !token) return;
    const button = event.target.closest("button");
    if (!button.dataset.sure) {
      // Twice, so that one slip takes nobody's way in.
      button.dataset.sure = "1";
      button.classList.add("need");
      button.classList.remove("icon");
      button.textContent = gettext("Really?");
      return;
    }
    try {
      await call("DELETE", member ? `${path}/members/${member.dataset.member}` : `/tokens/${token.dataset.token}`);
      const row = member ?? token, next = $("button", row.nextElementSibling ?? row.parentElement.nextElementSibling ?? settings);
      row.remove();
      next?.focus();
      say(member ? gettext("Removed.") : gettext("Revoked."));
    } catch (refusal) { announce(refusal.message, true); toast(refusal.message); }
  });
  $("[data-token-form]")?.addEventListener("submit", async event => {
    event.preventDefault();
    const {name, role, carries_secrets: carries} = event.target.elements;
    const made = await sent(event.target, () => call("POST", "/tokens", {board: settings.dataset.board, name: name.value, role: role.value, carries_secrets: carries.checked}));
    if (!made) return;
    const box = $("[data-secret]"), row = document.createElement("li");
    box.hidden = false;
    $("code", box).textContent = made.token;
    row.dataset.token = made.id;
    const revoke = Object.assign(document.createElement("button"), {className: "btn sm", type: "button", textContent: gettext("Revoke")});
    revoke.dataset.revoke = "";
    row.append(Object.assign(document.createElement("b"), {textContent: made.name}), Object.assign(document.createElement("span"), {className: "sub mono", textContent: `…${made.token.slice(-4)}`}), Object.assign(document.createElement("span"), {className: "push"}), revoke);
    box.nextElementSibling.prepend(row);
    event.target.reset();
    say(gettext("The token {name} was made.", {name: made.name}));
  });
  $("[data-archive-board]")?.addEventListener("click", async event => {
    const part = event.target.closest(".part"), archived = event.target.closest("button").dataset.archiveBoard === "true";
    if (await sent(part, () => patch({archived}))) location.assign(archived ? "/?all" : location.href);
  });
}
