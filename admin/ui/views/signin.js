// Sign-in: with the admin token, where the page was not opened by `wxproxy ui`.
import { html, useId, useState } from "../dom.js";
import { signIn } from "../api.js";
import { problemText } from "../parts.js";
import { Switches } from "../switches.js";
import { t } from "../words.js";

export function SignIn({ problem, done, change }) {
  const [fault, fail] = useState(problem);
  const [busy, work] = useState(false);
  const id = useId();
  const send = async (e) => {
    e.preventDefault();
    work(true);
    try {
      await signIn(new FormData(e.target).get("token").trim());
      done();
    } catch (error) {
      fail(error);
    }
    work(false);
  };
  return html`<main class="signin">
    <header><span class="mark">wxproxy</span><span class="push"></span><${Switches} change=${change} /></header>
    <h1>${t("PageSignInTitle")}</h1>
    <p>${t("PageSignInHow")}</p>
    <pre><code>wxproxy ui</code></pre>
    <form onSubmit=${send}>
      <label for=${id}>${t("PageSignInToken")}</label>
      <div class="line"><input id=${id} name="token" type="password" autocomplete="current-password" required spellcheck="false" /><button class="main" disabled=${busy}>${t("PageSignIn")}</button></div>
      ${fault && html`<p class="note fault" role="alert">${problemText(fault)}</p>`}
    </form>
    <p class="faint">${t("PageSignInKept")}</p>
  </main>`;
}
