/* Charts drawn by the server: values at once on hover, and by arrow keys from one tab stop a
 * chart. */
import "./asked.js";

for (const plot of document.querySelectorAll("[data-plot]")) {
  const readout = plot.querySelector(".readout");
  const marks = [...plot.querySelectorAll(".mark")];
  let here = -1;
  for (const mark of marks) {
    const title = mark.querySelector("title");
    mark.dataset.said = title.textContent;
    title.remove();
  }
  function go(n) {
    marks[here]?.classList.remove("at");
    here = n;
    marks[here]?.classList.add("at");
    readout.textContent = marks[here]?.dataset.said ?? "";
  }
  plot.addEventListener("keydown", event => {
    const to = {
      ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here < 0 ? marks.length - 1 : here - 1,
      ArrowUp: here - 1, Home: 0, End: marks.length - 1,
    }[event.key];
    if (event.key === "Enter" && marks[here]?.dataset.href) location.assign(marks[here].dataset.href);
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey || !marks.length) return;
    event.preventDefault();
    go(Math.min(Math.max(to, 0), marks.length - 1));
  });
  plot.addEventListener("pointerover", ({target}) => {
    const mark = target.closest(".mark");
    if (mark) readout.textContent = mark.dataset.said;
  });
  plot.addEventListener("pointerleave", () => { readout.textContent = marks[here]?.dataset.said ?? ""; });
  plot.addEventListener("focusout", () => go(-1));
  plot.addEventListener("click", ({target}) => {
    const href = target.closest(".mark")?.dataset.href;
    if (href) location.assign(href);
  });
}
