// Which colours: the system's, or those chosen. It runs before the first paint, so that nothing flashes.
(() => {
  const NAMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
  const ORDER = ["auto", "light", "dark"];
  const KEY = "forebay-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  function stored() {
    try {
      const value = localStorage.getItem(KEY);
      return ORDER.includes(value) ? value : "auto";
    } catch {
      return "auto";
    }
  }

  function set(value) {
    root.dataset.theme = value === "auto" ? (system.matches ? "dark" : "light") : value;
    try {
      localStorage.setItem(KEY, value);
    } catch {
      // Without storage the choice holds until the page is closed.
    }
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = { auto: "◐", light: "☀", dark: "☾" }[value];
      button.title = `${NAMES[value]} (press to change)`;
      button.setAttribute("aria-label", button.title);
    }
    root.dispatchEvent(new Event("themechange"));
  }

  let now = stored();
  set(now);
  system.addEventListener("change", () => set(now));
  document.addEventListener("DOMContentLoaded", () => {
    set(now);
    document.getElementById("theme").addEventListener("click", () => {
      now = ORDER[(ORDER.indexOf(now) + 1) % ORDER.length];
      set(now);
    });
  });
})();
