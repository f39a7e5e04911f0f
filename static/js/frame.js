/* The frame of every page, set before the first paint: the theme, which a cookie keeps, the
   contrast, and whether the side bar is folded. "contrast" is light or dark as the system is. */
{
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)"), more = matchMedia("(prefers-contrast: more)");
  const chosen = () => document.cookie.match(/(?:^|; )theme=(light|dark|contrast)/)?.[1] ?? "";
  const show = () => {
    const theme = chosen();
    if (theme === "light" || theme === "dark") delete root.dataset.themeFollows;
    else root.dataset.themeFollows = "system";
    root.dataset.theme = root.dataset.themeFollows ? (dark.matches ? "dark" : "light") : theme;
    if (theme === "contrast" || more.matches) root.dataset.contrast = "more";
    else delete root.dataset.contrast;
  };
  show();
  if (document.cookie.match(/(?:^|; )side=folded/)) root.dataset.side = "folded";
  dark.addEventListener("change", show);
  more.addEventListener("change", show);
  addEventListener("holdfast:theme", event => {
    document.cookie = `theme=${event.detail}; path=/; max-age=${event.detail ? 31536000 : 0}; samesite=lax`;
    show();
  });
}
