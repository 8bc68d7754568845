// Overview: what needs a look, today's calls, and every account, the one nearest to a limit first.
import { classes, html, useState } from "../dom.js";
import { accounts, history, table } from "../api.js";
import { Spark } from "../chart.js";
import { Answered, Download, Empty, Forecast, Fresh, level, Name, Part, problemText, Search, Token } from "../parts.js";
import { to, useAnswer, useLater, useRows } from "../use.js";
import { hour, local, number, percent, t, translate, when, zoneName } from "../words.js";

const pageSize = 100;
const fewAccounts = 500; // up to which the hours of all are asked for at once

export function Overview({ status }) {
  const [text, search] = useState("");
  const q = useLater(text);
  const list = useAnswer((signal) => accounts({ q, limit: pageSize }, signal), [q], 5000);
  const total = status.data ? status.data.totals.accounts + status.data.totals.learned : q === "" ? (list.data?.total ?? null) : null;
  const hours = useAnswer((signal) => (total === null || total > fewAccounts ? null : history({ step: "hour", by: "none" }, signal)), [total !== null && total <= fewAccounts], 60_000);
  const byApp = hoursOf(hours.data);
  return html`
    <${Headline} list=${list} status=${status} searched=${q !== ""} />
    <${Today} byApp=${byApp} hours=${hours} many=${total !== null && total > fewAccounts} />
    <section class="panel" aria-labelledby="accounts">
      <header>
        <h2 id="accounts">${t("PageAccounts")}${list.data && html` <small>${number(list.data.total)}</small>`}</h2>
        <${Fresh} of=${list} /><span class="push"></span>
        <${Search} label=${t("PageSearchAccounts")} value=${text} onInput=${search} />
        <${Download} name="accounts" request=${() => table("accounts", { q })} />
      </header>
      <${Answered} of=${list} lines=${6}>${(data) => html`<${Accounts} key=${q} first=${data} q=${q} byApp=${byApp} />`}<//>
    </section>`;
}

// hoursOf is the 24 hours of today of each account, from the history.
function hoursOf(data) {
  const byApp = new Map();
  for (const row of data?.rows ?? []) {
    if (!byApp.has(row.app)) byApp.set(row.app, Array(24).fill(null));
    const hours = byApp.get(row.app);
    const at = hour(row.start);
    hours[at] = { calls: (hours[at]?.calls ?? 0) + row.calls, refused: (hours[at]?.refused ?? 0) + row.refused };
  }
  return byApp;
}

// Headline answers the question with which the page is opened: is anything wrong, and what.
function Headline({ list, status, searched }) {
  const findings = searched ? null : findingsOf(list.data, status);
  const top = findings?.[0];
  return html`<div class="headline">
    <p class="eyebrow">${local(Date.now()).toISOString().slice(0, 10)} · ${zoneName()}</p>
    <h1>${!findings ? t("PageOverview") : top ? html`<${Finding} of=${top} />` : t("PageQuiet")}</h1>
    ${findings?.length > 1 && html`<ul class="findings">${findings.slice(1, 5).map((f) => html`<li key=${f.key}><${Finding} of=${f} /></li>`)}${findings.length > 5 && html`<li class="faint">${t("PageMoreFindings", { count: number(findings.length - 5) })}</li>`}</ul>`}
  </div>`;
}

const Finding = ({ of }) => html`<a class=${`finding ${of.kind}`} href=${of.href}><i class=${`dot ${of.kind}`} aria-hidden="true"></i>${of.text}</a>`;

function findingsOf(data, status) {
  if (!data) return null;
  const found = [];
  const add = (kind, key, href, text) => found.push({ kind, key, href, text });
  if (status.data && !status.data.store.counting) add("out", "store", "#/gateway", t("PageFindStore"));
  if (status.data?.reload.status === "fault") add("nearly", "reload", "#/gateway", t("PageFindReload"));
  const listed = new Set(data.list.map((a) => a.appid));
  const beyond = (status.data?.accounts ?? []).filter((a) => a.problem && !listed.has(a.appid)); // on later pages
  for (const a of [...data.list, ...beyond]) {
    const n = a.nearest;
    const api = n && (n.title && document.documentElement.lang === "zh-CN" ? n.title : n.rule);
    const href = to("app", a.app, { rule: n?.rule });
    if (a.token && ["refused", "failing", "dead"].includes(a.token.state)) add("out", `${a.appid} token`, to("app", a.app), t("PageFindToken", { app: a.app, error: translate(a.token.error) }));
    if (!n) continue;
    if (n.state === "latched") add("out", a.appid, href, t("PageFindLatched", { app: a.app, api }));
    else if (n.state === "full") add("out", a.appid, href, t("PageFindFull", { app: a.app, api, time: when(n.reset) }));
    else if (n.forecast?.runsOut) add("nearly", a.appid, href, t("PageFindRunsOut", { app: a.app, api, time: when(n.forecast.runsOut) }));
    else if (level(n) === "almost" || level(n) === "nearly") add("nearly", a.appid, href, t("PageFindNear", { app: a.app, api, percent: percent(n.percent) }));
  }
  return found.sort((x, y) => (x.kind === y.kind ? 0 : x.kind === "out" ? -1 : 1));
}

// Today is all calls of today by hour.
function Today({ byApp, hours, many }) {
  const now = hour(Date.now());
  const all = Array.from({ length: 24 }, (_, i) => [...byApp.values()].reduce((sum, of) => ({ calls: sum.calls + (of[i]?.calls ?? 0), refused: sum.refused + (of[i]?.refused ?? 0) }), { calls: 0, refused: 0 }));
  const calls = all.reduce((n, h) => n + h.calls, 0);
  const refused = all.reduce((n, h) => n + h.refused, 0);
  if (many) return null;
  return html`<section class="panel today" aria-label=${t("PageToday")}>
    <${Answered} of=${hours} lines=${2}>${() => html`
      <dl class="facts">
        <div class="fact big"><dt>${t("PageCallsToday")}</dt><dd>${number(calls - refused)}</dd></div>
        <div class="fact big"><dt>${t("PageRefusedToday")}</dt><dd class=${classes(refused > 0 && "bad")}>${refused > 0 ? html`<a href="#/refusals">${number(refused)}</a>` : "0"}</dd></div>
      </dl>
      <figure>
        <${Spark} large hours=${all} now=${now} label=${t("PageTodayChart", { calls: number(calls), refused: number(refused) })} />
        <figcaption>${[0, 6, 12, 18].map((h) => html`<span key=${h}>${String(h).padStart(2, "0")}:00</span>`)}<span class="key"><i class="sent"></i>${t("PageSent")} <i class="refused"></i>${t("PageRefused")}</span></figcaption>
      </figure>`}<//>
  </section>`;
}

// Accounts is the table, and the pages after the first as they are asked for.
function Accounts({ first, q, byApp }) {
  const [more, add] = useState({ list: [], next: null });
  const [failed, fail] = useState(null);
  const next = more.next ?? first.next;
  const rows = useRows();
  const page = async () => {
    try {
      const got = await accounts({ q, cursor: next, limit: pageSize });
      add({ list: [...more.list, ...got.list], next: got.next });
    } catch (error) {
      fail(error);
    }
  };
  if (first.list.length === 0) return html`<${Empty}>${q ? t("PageNoMatch", { text: q }) : t("PageNoAccounts")}<//>`;
  const known = new Set(first.list.map((a) => a.appid));
  const list = [...first.list, ...more.list.filter((a) => !known.has(a.appid))];
  return html`
    <table class="accounts">
      <caption class="hidden">${t("PageAccounts")}</caption>
      <thead><tr><th scope="col">${t("ExplainApp")}</th><th scope="col">${t("PageNearest")}</th><th scope="col">${t("HeadUsed")}</th><th scope="col">${t("PageForecast")}</th><th scope="col" class="n">${t("PageCallsToday")}</th><th scope="col" class="n">${t("PageRefused")}</th><th scope="col">${t("PageHours")}</th><th scope="col">${t("PageToken")}</th></tr></thead>
      <tbody>${list.slice(0, rows).map((a) => html`<${AccountLine} key=${a.appid} a=${a} hours=${byApp.get(a.app)} />`)}</tbody>
    </table>
    ${next && html`<p class="more"><button onClick=${page}>${t("PageMore", { shown: number(list.length), total: number(first.total) })}</button></p>`}
    ${failed && html`<p class="note fault" role="alert">${problemText(failed)}</p>`}`;
}

function AccountLine({ a, hours }) {
  const n = a.nearest;
  const href = to("app", a.app, { rule: n?.rule });
  return html`<tr class="go" onClick=${(e) => !e.target.closest("a") && (location.hash = href)}>
    <th scope="row"><a href=${href}>${a.app}</a><code>${a.appid !== a.app && a.appid}</code>${a.learned && html`<small class="tag">${t("PageLearned")}</small>`}</th>
    ${a.error ? html`<td colspan="3" class="nothing bad">${translate(a.error)}</td>` : !n ? html`<td colspan="3" class="nothing faint">${t("PageNothingUsed")}</td>` : html`
      <td class="api"><${Name} row=${n} /></td>
      <td class="part"><${Part} row=${n} named /></td>
      <td class="when"><${Forecast} row=${n} /></td>`}
    <td class="n calls" data-label=${t("PageCallsToday")}>${number(a.used)}</td>
    <td class="n calls" data-label=${t("PageRefused")}>${a.refused > 0 ? html`<a class="bad" href=${to("refusals", "", { app: a.app })}>${number(a.refused)}</a>` : html`<span class="faint">0</span>`}</td>
    <td class="hours">${hours && html`<${Spark} hours=${hours} now=${hour(Date.now())} label=${t("PageHoursOf", { app: a.app })} />`}</td>
    <td class="life"><${Token} token=${a.token} /></td>
  </tr>`;
}
