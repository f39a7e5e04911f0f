/* The frame of every page: the theme, set before the first paint and kept in a cookie that the
   server reads, and the side bar of small screens. */
{
  const root = document.documentElement;
  // Error pages are made without a look at the request.
  const chosen = document.cookie.match(/(?:^|; )theme=(light|dark)/)?.[1];
  if (chosen) {
    root.dataset.theme = chosen;
    delete root.dataset.themeFollows;
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    if (root.dataset.themeFollows) root.dataset.theme = dark.matches ? "dark" : "light";
  };
  follow();
  dark.addEventListener("change", follow);
  addEventListener("click", event => {
    const side = document.getElementById("side");
    const toggle = event.target.closest?.("[data-side-toggle]");
    if (toggle || (side?.classList.contains("open") && !side.contains(event.target))) {
      const open = side.classList.toggle("open");
      document.querySelector("[data-side-toggle]")?.setAttribute("aria-expanded", open);
    }
    if (!event.target.closest?.("[data-theme-toggle]")) return;
    delete root.dataset.themeFollows;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  });
}
