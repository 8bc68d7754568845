// Gateway: what runs, and what a call would meet.
import { classes, html, useId, useState } from "../dom.js";
import { alerts, explain, reload } from "../api.js";
import { Amount, Answered, Bar, Empty, Fact, problemText, Token } from "../parts.js";
import { to, useAnswer } from "../use.js";
import { day, number, span, t, translate, when } from "../words.js";
import { Sent, Sinks } from "./alerts.js";

export function Gateway({ status }) {
  const sent = useAnswer((signal) => alerts(signal), [], 5_000);
  return html`
    <div class="headline"><h1>${t("PageGateway")}</h1></div>
    <${Explain} status=${status} />
    <${Answered} of=${status} lines=${8}>${(s) => html`
      <div class="grid">
        <${Process} s=${s} again=${status.again} />
        <${Store} s=${s} />
        <${Fleet} s=${s} />
        <${Sinks} of=${sent} />
      </div>
      <${Sent} of=${sent} />
      <${Accounts} s=${s} />
      <${Config} s=${s} />`}<//>`;
}

function Process({ s, again }) {
  const [fault, fail] = useState(null);
  const read = async () => {
    try {
      await reload();
      fail(null);
    } catch (error) {
      fail(error);
    }
    again();
  };
  const wrong = s.reload.status === "fault";
  return html`<section class="panel" aria-labelledby="process"><header><h2 id="process">${t("PageProcess")}</h2></header>
    <dl class="pairs">
      <dt>${t("PageVersion")}</dt><dd>${s.version}${s.revision && html` <code>${s.revision.slice(0, 12)}</code>`} <span class="faint">${s.go}</span></dd>
      <dt>${t("PageUptime")}</dt><dd>${span(s.uptime)} <span class="faint">${t("PageSince", { time: when(s.started) })}</span></dd>
      <dt>${t("PageReload")}</dt><dd>${wrong ? html`<span class="bad">${t("PageReloadFault")}</span>` : t("PageReloadGood")} <span class="faint">${s.reload.time && when(s.reload.time)}</span> <button class="link" onClick=${read}>${t("PageReloadNow")}</button></dd>
      ${s.certificate && html`<dt>${t("PageCertificate")}</dt><dd>${t("PageUntil", { time: day(s.certificate) })}</dd>`}
    </dl>
    ${wrong && html`<pre class="note fault">${translate(s.reload.error)}</pre>`}
    ${fault && !wrong && html`<pre class="note fault" role="alert">${problemText(fault)}</pre>`}
  </section>`;
}

function Store({ s }) {
  const good = s.store.counting;
  return html`<section class="panel" aria-labelledby="store"><header><h2 id="store">${t("PageStore")}</h2></header>
    <dl class="pairs">
      <dt>${t("PageStoreState")}</dt><dd><i class=${`dot ${good ? "open" : "out"}`} aria-hidden="true"></i><span class=${classes(!good && "bad")}>${good ? t("PageStoreGood") : t("PageStoreDown")}</span> <span class="faint">${t("PageSince", { time: when(s.store.since) })}</span></dd>
      <dt>${t("PageStoreKind")}</dt><dd><code>${s.store.kind}</code></dd>
    </dl>
    ${s.store.error && html`<p class="note fault">${translate(s.store.error)}</p>`}
    <dl class="pairs totals">
      <dt>${t("PageAccounts")}</dt><dd>${number(s.totals.accounts)}${s.totals.learned > 0 && html` <span class="faint">+ ${number(s.totals.learned)} ${t("PageLearned")}</span>`}</dd>
      <dt>${t("PageTokensGood")}</dt><dd>${number(s.totals.tokens)}</dd>
      <dt>${t("PageTokensBad")}</dt><dd class=${classes(s.totals.refused > 0 && "bad")}>${number(s.totals.refused)}</dd>
      <dt>${t("PageUsedUp")}</dt><dd class=${classes(s.totals.used_up > 0 && "bad")}>${number(s.totals.used_up)}</dd>
      <dt>${t("StateLatched")}</dt><dd class=${classes(s.totals.latched > 0 && "bad")}>${number(s.totals.latched)}</dd>
    </dl>
  </section>`;
}

function Fleet({ s }) {
  return html`<section class="panel" aria-labelledby="fleet"><header><h2 id="fleet">${t("PageFleet")} <small>${number(s.gateways.length)}</small></h2></header>
    ${s.gatewaysError && html`<p class="note fault">${translate(s.gatewaysError)}</p>`}
    <table class="plain"><thead class="hidden"><tr><th scope="col">${t("PageGateway")}</th><th scope="col">${t("PageSeen")}</th></tr></thead>
      <tbody>${s.gateways.map((g) => html`<tr key=${g.id}><th scope="row"><code>${g.id}</code>${g.here && html` <small class="tag">${t("PageThis")}</small>`}</th><td class="n faint">${g.seen ? t("PageAgo", { span: span(Date.now() - new Date(g.seen)) }) : ""}</td></tr>`)}</tbody></table>
  </section>`;
}

function Accounts({ s }) {
  return html`<section class="panel" aria-labelledby="tokens"><header><h2 id="tokens">${t("PageTokens")}</h2></header>
    ${s.accountsError && html`<p class="note fault">${translate(s.accountsError)}</p>`}
    ${s.accounts.length === 0 ? html`<${Empty}>${t("PageNoProblems")}<//>` : html`<table class="tokens"><caption class="hidden">${t("PageTokens")}</caption>
      <thead><tr><th scope="col">${t("ExplainApp")}</th><th scope="col">${t("PageToken")}</th><th scope="col">${t("PageUsedUp")}</th><th scope="col">${t("StateLatched")}</th><th scope="col">${t("PageClearsLeftHead")}</th></tr></thead>
      <tbody>${s.accounts.map((a) => html`<tr key=${a.appid}><th scope="row"><a href=${to("app", a.app)}>${a.app}</a></th>
        <td><${Token} token=${a.token} long />${a.token?.error && html`<p class="note fault">${translate(a.token.error)}${a.token.mend && html`<br />→ ${translate(a.token.mend)}`}</p>`}</td>
        <td class=${classes(a.usedUp.length === 0 && "nil")} data-label=${t("PageUsedUp")}>${a.usedUp.length ? html`<span class="bad">${a.usedUp.join(", ")}</span>` : html`<span class="faint">—</span>`}</td>
        <td class=${classes(a.latched.length === 0 && "nil")} data-label=${t("StateLatched")}>${a.latched.length ? html`<span class="bad">${a.latched.join(", ")}</span>` : html`<span class="faint">—</span>`}</td>
        <td class=${classes(a.clears.length === 0 && "nil")} data-label=${t("PageClearsLeftHead")}>${a.clears.length === 0 && html`<span class="faint">—</span>`}${a.clears.map((c) => html`<span key=${c.kind} class="clears">${c.kind === "app" ? t("PageKindApp") : t("PageKindRule")} ${number(c.left)}<span class="faint">/${number(c.limit)}</span></span>`)}</td></tr>`)}</tbody></table>`}
    ${s.leftOut > 0 && html`<p class="faint">${t("PageMoreFindings", { count: number(s.leftOut) })}</p>`}
  </section>`;
}

function Config({ s }) {
  if (Object.keys(s.config).length === 0) return null;
  return html`<section class="panel" aria-labelledby="config"><header><h2 id="config">${t("PageConfig")}</h2><span class="faint">${t("PageMasked")}</span></header>
    <div class="scroll" tabindex="0"><pre class="config">${yaml(s.config, "")}</pre></div></section>`;
}

// yaml writes a value as the file has it.
function yaml(value, indent) {
  if (Array.isArray(value)) {
    if (value.every((v) => typeof v !== "object" || v === null)) return ` [${value.join(", ")}]\n`;
    return `\n${value.map((v) => `${indent}-${yaml(v, `${indent}  `).replace(/^\n\s*/, " ")}`).join("")}`;
  }
  if (typeof value !== "object" || value === null) return ` ${value === "" ? '""' : value}\n`;
  return `${indent ? "\n" : ""}${Object.entries(value).filter(([, v]) => v !== null).map(([name, v]) => `${indent}${name}:${yaml(v, `${indent}  `)}`).join("")}`;
}

// Explain asks what a call would meet.
function Explain({ status }) {
  const [asked, ask] = useState(null);
  const [answer, set] = useState(null);
  const [fault, fail] = useState(null);
  const id = useId();
  const apps = status.data?.accounts.map((a) => a.app) ?? [];
  const send = async (e) => {
    e.preventDefault();
    const query = Object.fromEntries(new FormData(e.target));
    try {
      set(await explain(query));
      ask(query);
      fail(null);
    } catch (error) {
      fail(error);
    }
  };
  return html`<section class="panel explain" aria-labelledby="explain"><header><h2 id="explain">${t("PageExplain")}</h2></header>
    <form onSubmit=${send}>
      <label for=${`${id}a`}>${t("ExplainApp")}</label><input id=${`${id}a`} name="app" list=${`${id}l`} required autocomplete="off" spellcheck="false" defaultValue=${apps[0] ?? ""} /><datalist id=${`${id}l`}>${apps.map((a) => html`<option key=${a} value=${a} />`)}</datalist>
      <label for=${`${id}m`}>${t("PageMethod")}</label><select id=${`${id}m`} name="method"><option>POST</option><option>GET</option></select>
      <label for=${`${id}p`}>${t("PagePath")}</label><input id=${`${id}p`} class="path" name="path" required placeholder="/cgi-bin/message/custom/send" autocomplete="off" spellcheck="false" />
      <label for=${`${id}c`}>${t("ExplainCaller")}</label><input id=${`${id}c`} name="caller" autocomplete="off" spellcheck="false" />
      <button class="main">${t("PageAsk")}</button>
    </form>
    ${fault && html`<p class="note fault" role="alert">${problemText(fault)}</p>`}
    ${answer && !fault && html`<div class="fate" role="status">
      <p class=${classes("statement", /^refused/.test(answer.decision) && "bad")}>${translate(answer.statement)}</p>
      <dl class="facts">
        <${Fact} label=${t("ExplainCall")}><code>${answer.method} ${answer.path}</code><//>
        ${answer.rule && html`<${Fact} label=${t("HeadRule")}><a href=${to("app", answer.app, { rule: answer.rule })}>${answer.rule}</a><//>`}
        ${answer.quota && html`<${Fact} label=${t("ExplainQuota")}>${answer.quota}<//>`}
        ${answer.pace && html`<${Fact} label=${t("ExplainPace")}>${answer.pace}<//>`}
        ${answer.rows.map((r) => html`<${Fact} key=${r.period + r.caller} label=${r.caller || (r.period === "month" ? t("PageMonth") : t("PageToday"))}><${Amount} row=${r} /><${Bar} row=${r} /><//>`)}
      </dl>
    </div>`}
  </section>`;
}
