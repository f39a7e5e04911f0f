/* What a page of past events is asked for: a form that acts at once, and the reader's time zone,
 * which the server learns from a cookie. */
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const here = document.querySelector("[data-zone]")?.dataset.zone;
if (zone && here && here !== zone && !new URLSearchParams(location.search).get("tz")) {
  const pair = `tz=${encodeURIComponent(zone)}`;
  // Once: a server that doesn't know the zone goes on in its own.
  const known = document.cookie.split("; ").includes(pair);
  document.cookie = `${pair}; path=/; max-age=31536000; samesite=lax`;
  if (!known && document.cookie.includes("tz=")) location.reload();
}

for (const form of document.querySelectorAll("[data-asked]")) {
  for (const select of form.querySelectorAll("select")) {
    select.addEventListener("change", () => form.requestSubmit());
  }
  // An address without what nobody asked for.
  form.addEventListener("formdata", ({formData}) => {
    for (const [name, value] of [...formData]) if (!value) formData.delete(name);
  });
}
