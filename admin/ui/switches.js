// The switches for language and theme.
import { html, useState } from "./dom.js";
import { browser } from "./kept.js";
import { language, t } from "./words.js";

export function Switches({ change }) {
  const [theme, set] = useState(browser.get("theme") ?? "system");
  const turn = () => {
    const next = { system: "light", light: "dark", dark: "system" }[theme];
    browser.set("theme", next === "system" ? null : next);
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    set(next);
    dispatchEvent(new Event("theme"));
  };
  const text = theme === "light" ? t("PageThemeLight") : theme === "dark" ? t("PageThemeDark") : t("PageThemeSystem");
  return html`
    <button class="quiet" id="language" lang=${language() === "zh" ? "en" : "zh-CN"} onClick=${change}>${language() === "zh" ? "English" : "中文"}</button>
    <button class="quiet" id="theme" title=${text} aria-label=${text} onClick=${turn}><i class=${`theme ${theme}`} aria-hidden="true"></i></button>`;
}
