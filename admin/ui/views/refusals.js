// Refusals: what was refused, of whom and why; and the live tail of calls.
import { classes, html, useState } from "../dom.js";
import { refusals, table } from "../api.js";
import { Answered, Choice, Download, Empty, Fresh, Search } from "../parts.js";
import { replace, to, useAnswer } from "../use.js";
import { number, reason, t, when } from "../words.js";
import { Tail } from "./tail.js";

const ranges = { day: "today", week: "7d", month: "30d" };

export function Refusals({ route }) {
  const filter = { app: route.query.app ?? "", rule: route.query.rule ?? "", caller: route.query.caller ?? "", reason: route.query.reason ?? "" };
  const live = route.query.live === "1";
  const range = ranges[route.query.range] ? route.query.range : "day";
  const narrow = (change) => replace(to("refusals", "", { ...route.query, ...change }));
  const list = useAnswer((signal) => refusals({ app: filter.app, from: ranges[range] }, signal), [filter.app, range], 10_000);
  const [text, search] = useState("");
  const chips = Object.entries(filter).filter(([, value]) => value);
  return html`
    <div class="headline"><h1>${t("PageRefusals")}</h1>
      ${chips.length > 0 && html`<p class="chips">${chips.map(([name, value]) => html`<button key=${name} onClick=${() => narrow({ [name]: "" })} aria-label=${t("PageUnfilter", { value })} title=${value}>${name === "reason" ? reason(value) : value} <i aria-hidden="true">✕</i></button>`)}</p>`}
    </div>
    <section class="panel" aria-labelledby="refused">
      <header><h2 id="refused">${t("PageRefusedBy")}</h2><${Fresh} of=${list} /><span class="push"></span>
        <${Choice} label=${t("PageRange")} value=${range} onChange=${(r) => narrow({ range: r })} of=${[["day", t("PageRangeDay")], ["week", t("PageRangeWeek")], ["month", t("PageRangeMonth")]]} />
        <${Search} label=${t("PageFilter")} value=${text} onInput=${search} />
        <${Download} name="refusals" request=${() => table("refusals", { app: filter.app, from: ranges[range] })} />
      </header>
      <${Answered} of=${list} lines=${6}>${(data) => html`<${List} rows=${data.filter((r) => passes(r, filter) && matches(r, text)).sort((x, y) => y.count - x.count)} all=${data.length} narrow=${narrow} />`}<//>
    </section>
    <${Tail} key=${JSON.stringify(filter)} filter=${filter} begun=${live} />`;
}

const passes = (r, f) => (!f.rule || r.rule === f.rule) && (!f.caller || r.caller === f.caller) && (!f.reason || r.reason === f.reason);
const matches = (r, text) => !text || [r.app, r.appid, r.rule, r.caller, r.reason, reason(r.reason)].some((s) => s.toLowerCase().includes(text.toLowerCase()));

function List({ rows, all, narrow }) {
  if (rows.length === 0) return html`<${Empty}>${all > 0 ? t("PageNoneLeft") : t("PageNothingRefused")}<//>`;
  const pick = (name, value, shown) => value ? html`<button class="pick" title=${shown && value} onClick=${() => narrow({ [name]: value })}>${shown ?? value}</button>` : html`<span class="faint">—</span>`;
  return html`<table class="refusals">
    <caption class="hidden">${t("PageRefusals")}</caption>
    <thead><tr><th scope="col" class="n">${t("PageCount")}</th><th scope="col">${t("PageReason")}</th><th scope="col">${t("ExplainApp")}</th><th scope="col">${t("HeadRule")}</th><th scope="col">${t("ExplainCaller")}</th><th scope="col">${t("PageFirst")}</th><th scope="col">${t("PageLast")}</th><th scope="col">${t("PageActions")}</th></tr></thead>
    <tbody>${rows.map((r) => html`<tr key=${[r.appid, r.rule, r.caller, r.reason].join(" ")}>
      <td class="n count">${number(r.count)}</td>
      <th scope="row" class="why">${pick("reason", r.reason, html`${reason(r.reason)} <code>${r.reason}</code>`)}</th>
      <td data-label=${t("ExplainApp")}>${r.app === "-" ? html`<span class="faint">${t("PageNoApp")}</span>` : pick("app", r.app)}</td>
      <td data-label=${t("HeadRule")}>${pick("rule", r.rule)}</td>
      <td data-label=${t("ExplainCaller")}>${pick("caller", r.caller)}</td>
      <td class="time" data-label=${t("PageFirst")}>${when(r.first)}</td><td class="time" data-label=${t("PageLast")}>${when(r.last)}</td>
      <td class="acts">${r.app !== "-" && r.rule && html`<a href=${to("app", r.app, { rule: r.rule })}>${t("PageChart")}</a>`}<a href=${to("refusals", "", { app: r.app === "-" ? "" : r.app, rule: r.rule, caller: r.caller, reason: r.reason, live: "1" })}>${t("PageLines")}</a></td>
    </tr>`)}</tbody>
  </table>`;
}
