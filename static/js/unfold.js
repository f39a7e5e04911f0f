/* What a <details> shows is fetched when it is first opened: `[data-unfold]` within it says where. */
document.addEventListener("toggle", async event => {
  const place = event.target.open && event.target.querySelector?.("[data-unfold]:not([data-there])");
  if (!place) return;
  const answer = await fetch(place.dataset.unfold).catch(() => null);
  if (!answer?.ok) {
    const told = await answer?.json().catch(() => null);
    place.textContent = told?.detail ?? "…";
    return;
  }
  place.dataset.there = "";
  place.innerHTML = await answer.text();  // made and escaped by the server
}, true);
