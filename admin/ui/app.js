// The frame around the views: sign-in, navigation, language, theme.
import { html, render, useEffect, useState } from "./dom.js";
import { onSignedOut, signedIn, signOut, status, trade } from "./api.js";
import { opened } from "./kept.js";
import { useAnswer, useRoute } from "./use.js";
import { language, preferred, speak, t } from "./words.js";
import { Account } from "./views/account.js";
import { Gateway } from "./views/gateway.js";
import { Overview } from "./views/overview.js";
import { Refusals } from "./views/refusals.js";
import { Switches } from "./switches.js";
import { SignIn } from "./views/signin.js";

const views = { "": Overview, app: Account, refusals: Refusals, gateway: Gateway };

function App({ fault }) {
  const [, shown] = useState(0);
  const again = () => shown((n) => n + 1);
  const [problem, setProblem] = useState(fault);
  useEffect(() => onSignedOut(again), []);
  const change = async () => {
    await speak(language() === "zh" ? "en" : "zh");
    again();
  };
  if (!signedIn()) return html`<${SignIn} problem=${problem} done=${() => { setProblem(null); again(); }} change=${change} />`;
  return html`<${Frame} key=${language()} change=${change} />`;
}

function Frame({ change }) {
  const route = useRoute();
  const View = views[route.name] ?? Overview;
  const state = useAnswer((signal) => status(undefined, signal), [], 10_000);
  useEffect(() => {
    document.title = [route.argument || title(route.name), "wxproxy"].join(" · ");
    scrollTo(0, 0);
  }, [route.name, route.argument]);
  const link = (name, text) => html`<a href=${`#/${name}`} aria-current=${route.name === name || (name === "" && route.name === "app") ? "page" : undefined}>${text}</a>`;
  const skip = (e) => {
    e.preventDefault();
    document.getElementById("main").focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>${t("PageSkip")}</a>
    <header class="top">
      <a class="mark" href="#/" aria-label="wxproxy">wxproxy</a>
      <nav aria-label=${t("PageNavigation")}>${link("", t("PageOverview"))}${link("refusals", t("PageRefusals"))}${link("gateway", t("PageGateway"))}</nav>
      <span class="push"></span>
      <${Pulse} state=${state} />
      <${Switches} change=${change} />
      <button class="quiet" onClick=${signOut}>${t("PageSignOut")}</button>
    </header>
    <main id="main" tabindex="-1"><${View} key=${route.argument} route=${route} status=${state} /></main>`;
}

function title(name) {
  switch (name) {
    case "refusals":
      return t("PageRefusals");
    case "gateway":
      return t("PageGateway");
    default:
      return t("PageOverview");
  }
}

// Pulse says in one word whether the gateway and its store answer.
function Pulse({ state }) {
  const { data, error } = state;
  const [kind, text] = error ? ["out", t("PageGatewaySilent")] : !data ? ["none", t("PageLoading")] : data.store.counting ? ["open", t("PageStoreGood")] : ["out", t("PageStoreDown")];
  return html`<a class="pulse" href="#/gateway"><i class=${`dot ${kind}`} aria-hidden="true"></i><span role="status">${text}</span></a>`;
}

// begin trades the code in the address, which no server and no log has seen, and takes it away.
async function begin() {
  await speak(preferred());
  const code = /^#code=([A-Z0-9]+)$/.exec(location.hash);
  let fault = null;
  if (code) {
    history.replaceState(null, "", "/");
    try {
      await trade(code[1]);
    } catch (error) {
      fault = error;
    }
  }
  // An answer that is nearly there saves drawing the page without it.
  await Promise.race([opened, new Promise((resolve) => setTimeout(resolve, 100))]);
  render(html`<${App} fault=${fault} />`, document.getElementById("page"));
}

// An address of `wxproxy ui` that is pasted over an open page changes only what follows its #.
addEventListener("hashchange", () => location.hash.startsWith("#code=") && location.reload());
begin();
