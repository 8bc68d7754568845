// Account: the console's table, live, and beside it all that is known of the API that is looked at.
import { classes, html, useState } from "../dom.js";
import { status, table, usage } from "../api.js";
import { arranged } from "../console.js";
import { Answered, Choice, Download, Empty, Fact, Forecast, Fresh, Name, Part, Search, State, Token } from "../parts.js";
import { replace, to, useAnswer, useRows } from "../use.js";
import { number, t, translate } from "../words.js";
import { Clear } from "./clear.js";
import { Detail } from "./detail.js";
import { Grant } from "./grant.js";

export function Account({ route }) {
  const app = route.argument;
  const now = useAnswer((signal) => usage(app, {}, signal), [app], 2000);
  const state = useAnswer((signal) => status(app, signal), [app], 10_000);
  const [asks, ask] = useState(null); // {kind: clear, rule} or {kind: grant, row}
  const account = state.data?.accounts[0];
  const chosen = route.query.rule ?? nearestRule(now.data);
  const choose = (rule) => replace(to("app", app, { rule }));
  return html`
    <div class="headline account">
      <p class="eyebrow"><a href="#/">${t("PageOverview")}</a> › <span>${t("ExplainApp")}</span></p>
      <h1>${app}${now.data && now.data.appid !== app && html` <code>${now.data.appid}</code>`}</h1>
      <div class="line"><dl class="facts">
        ${now.data && html`<${Fact} label=${t("ExplainProfile")}><code>${now.data.profile}</code><//>`}
        ${account && html`<${Fact} label=${t("PageToken")}><${Token} token=${account.token} long /><//>`}
        ${account?.clears.map((c) => html`<${Fact} key=${c.kind} label=${c.kind === "app" ? t("PageClearsApp") : t("PageClearsRule")}><b>${number(c.left)}</b><span class="faint">/${number(c.limit)}</span><//>`)}
        ${account?.latched.length > 0 && html`<${Fact} label=${t("StateLatched")}><span class="bad">${account.latched.join(", ")}</span><//>`}
      </dl>${now.data && html`<button onClick=${() => ask({ kind: "clear", rule: "" })}>${t("PageClearAll")}</button>`}</div>
      ${account?.token?.error && html`<p class="note fault">${translate(account.token.error)}${account.token.mend && html`<br />→ ${translate(account.token.mend)}`}</p>`}
    </div>
    <div class="split">
      <${Answered} of=${now} lines=${12}>${(data) => data.error ? html`<p class="note fault" role="alert">${translate(data.error)}</p>` : html`
        <${Table} app=${app} data=${data} now=${now} chosen=${chosen} choose=${choose} ask=${ask} />
        <${Detail} key=${chosen} app=${app} rule=${chosen} rows=${data.rows.filter((r) => r.rule === chosen)} saved=${data.saved[chosen]} ask=${ask} />`}<//>
    </div>
    ${asks?.kind === "clear" && html`<${Clear} app=${app} rule=${asks.rule} done=${now.again} onClose=${() => ask(null)} />`}
    ${asks?.kind === "grant" && html`<${Grant} app=${app} row=${asks.row} done=${now.again} onClose=${() => ask(null)} />`}`;
}

// nearestRule is the rule that is nearest to its limit: where a look begins.
function nearestRule(data) {
  const order = { latched: 2, full: 1 };
  const whole = (data?.rows ?? []).filter((r) => r.caller === "");
  const near = whole.filter((r) => r.used > 0 && r.percent !== null).sort((x, y) => (order[y.state] ?? 0) - (order[x.state] ?? 0) || y.percent - x.percent)[0];
  return (near ?? [...whole].sort((x, y) => y.used - x.used)[0])?.rule;
}

function Table({ app, data, now, chosen, choose, ask }) {
  const [text, search] = useState("");
  const [show, set] = useState(data.rows.some((r) => r.used > 0) ? "used" : "all");
  const [sort, order] = useState("console");
  let room = useRows();
  const rows = data.rows.filter((r) => r.caller === "" && (show === "all" || r.used > 0 || ["full", "latched"].includes(r.state)) && matches(r, text));
  const groups = sort === "console" ? arranged(rows) : [{ category: "", kind: "", rows: [...rows].sort((x, y) => (y.percent ?? -1) - (x.percent ?? -1) || y.used - x.used) }];
  return html`<section class="panel rules" aria-labelledby="rules">
    <header>
      <h2 id="rules">${t("PageAPIs")} <small>${number(rows.length)}</small></h2><${Fresh} of=${now} /><span class="push"></span>
      <${Choice} label=${t("PageShow")} value=${show} of=${[["used", t("PageUsed")], ["all", t("PageAll")]]} onChange=${set} />
      <${Choice} label=${t("PageOrder")} value=${sort} of=${[["console", t("PageByConsole")], ["near", t("PageByNear")]]} onChange=${order} />
      <${Search} label=${t("PageSearchAPIs")} value=${text} onInput=${search} />
      <${Download} name="usage" file=${`${app}-usage.csv`} request=${() => table("usage", { app })} />
    </header>
    ${rows.length === 0 ? html`<${Empty}>${text ? t("PageNoMatch", { text }) : t("PageNothingUsed")}<//>` : html`
    <table class="console">
      <caption class="hidden">${t("UsageShort")}</caption>
      <thead><tr>
        ${sort === "console" && html`<th scope="col" class="kind">${t("HeadCategory")}</th><th scope="col" class="kind">${t("PageFunction")}</th>`}
        <th scope="col">${t("HeadTitle")}</th><th scope="col">${t("HeadUsed")}</th>
        <th scope="col">${t("PageForecast")}</th><th scope="col">${t("HeadState")}</th><th scope="col">${t("PageActions")}</th>
      </tr></thead>
      ${groups.map((g, i) => room > 0 && html`<tbody key=${g.category}>${g.rows.slice(0, room).map((r, j) => html`
        <${Rule} key=${r.key} row=${r} chosen=${r.rule === chosen} choose=${choose} ask=${ask}
          group=${sort === "console" && { kind: j === 0 && groups[i - 1]?.kind !== g.kind ? g.kind : "", category: j === 0 ? g.category : "" }} />`)}${void (room -= g.rows.length)}</tbody>`)}
    </table>`}
    ${data.readingError && html`<p class="note stale">${t("ReadingFailed")} ${translate(data.readingError)}</p>`}
  </section>`;
}

const matches = (r, text) => !text || [r.rule, r.title, r.category, r.path].some((s) => s.toLowerCase().includes(text.toLowerCase()));

function Rule({ row, chosen, choose, ask, group }) {
  const open = (e) => !e.target.closest("button") && choose(row.rule);
  return html`<tr class=${classes("go", chosen && "chosen", row.state === "denied" && "denied")} onClick=${open}>
    ${group && html`<td class="kind" lang="zh-CN">${group.kind}</td><td class="kind" lang="zh-CN">${group.category}</td>`}
    <th scope="row"><button class="row" aria-pressed=${chosen ? "true" : "false"} onClick=${() => choose(row.rule)}><${Name} row=${row} /></button></th>
    <td class="part"><${Part} row=${row} /></td>
    <td class="when"><${Forecast} row=${row} /></td>
    <td class="is"><${State} row=${row} /></td>
    <td class="acts">${row.state !== "denied" && html`
      ${row.period === "day" && row.path === "" && html`<button class="link" aria-label=${t("PageClearOf", { rule: row.rule })} onClick=${() => ask({ kind: "clear", rule: row.rule })}>${t("PageClear")}</button>`}
      ${row.limit !== null && html`<button class="link" aria-label=${t("PageGrantOf", { rule: row.counter })} onClick=${() => ask({ kind: "grant", row })}>${t("PageGrant")}</button>`}`}</td>
  </tr>`;
}
