/* What scripts say, in the language of the page. xgettext finds the calls:
 *
 *   gettext("{key} moved to {name}.", {key, name})
 *   ngettext("{n} card", "{n} cards", n)
 */
const {lang} = document.documentElement;
const {catalog = {}} = lang === "en" ? {} : await fetch("/words.json")
  .then(answer => answer.ok ? answer.json() : {}).catch(() => ({}));

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

export function gettext(text, values = {}) {
  return filled(catalog[text] ?? text, values);
}

export function ngettext(one, many, n, values = {}) {
  // Both languages that come along count as English does.
  const forms = catalog[one] ?? [one, many];
  return filled(forms[n === 1 ? 0 : 1] ?? many, {n, ...values});
}
