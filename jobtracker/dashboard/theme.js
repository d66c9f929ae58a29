// Light, dark, or as the system says: the choice is kept in this browser.

const CHOICES = ["system", "light", "dark"];
const KEY = "quorate-theme";

/** Makes a button change the theme. */
export function startTheme(button) {
  let choice = CHOICES.includes(kept()) ? kept() : "system";
  const show = () => {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    button.textContent = `Theme: ${choice}`;
    document.dispatchEvent(new Event("theme"));
  };
  button.onclick = () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // A browser that keeps nothing forgets the choice, no more.
    }
    show();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
  show();
}

function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
