// Detail: one API of an account: who used it, when it runs out, what WeChat counts, its history.
import { classes, html, useState } from "../dom.js";
import { history, table } from "../api.js";
import { History, shade } from "../chart.js";
import { Amount, Answered, Bar, Choice, Download, Empty, Fact, Forecast, Name, State } from "../parts.js";
import { to, useAnswer } from "../use.js";
import { clock, day, number, outcome, percent, t, when } from "../words.js";

export function Detail({ app, rule, rows, saved, ask }) {
  const main = rows.find((r) => r.caller === "" && r.path === "") ?? rows[0];
  if (!main) return html`<aside class="panel detail"><${Empty}>${rule ? t("PageNoRule", { rule }) : t("PageNothingUsed")}<//></aside>`;
  const shares = rows.filter((r) => r.caller !== "");
  return html`<aside class="panel detail" aria-labelledby="detail">
    <header><h2 id="detail"><${Name} row=${main} /></h2><${State} row=${main} /></header>
    ${rows.filter((r) => r.caller === "").map((r) => html`<${Counter} key=${r.key} row=${r} />`)}
    ${saved > 0 && html`<p class="note fault inset">${t("PageSaved", { calls: number(saved) })}</p>`}
    <${Callers} row=${main} shares=${shares} />
    <${Past} app=${app} rule=${rule} limit=${rows.find((r) => r.caller === "" && r.path === "" && r.period === "day")?.limit ?? null} />
    <${WeChat} row=${main} />
    <footer>
      ${main.state !== "denied" && html`
        ${main.limit !== null && html`<button class="main" onClick=${() => ask({ kind: "grant", row: main })}>${t("PageGrantMore")}</button>`}
        ${main.period === "day" && html`<button onClick=${() => ask({ kind: "clear", rule })}>${t("PageClearRule")}</button>`}`}
      <a href=${to("refusals", "", { app, rule })}>${t("PageRefusals")}</a>
      <a href=${to("refusals", "", { app, rule, live: "1" })}>${t("PageTail")}</a>
    </footer>
  </aside>`;
}

// Counter is one window of the rule: its bar, what is left, when it starts over.
function Counter({ row }) {
  return html`<div class="counter">
    <div class="line"><span class="figure"><${Amount} row=${row} /></span>${row.path && html`<code>${row.path}</code>`}<span class="push"></span>${row.percent !== null && html`<span>${percent(row.percent)}</span>`}</div>
    <${Bar} row=${row} />
    <dl class="facts">
      ${row.left !== null && html`<${Fact} label=${t("PageLeft")}>${number(row.left)}<//>`}
      <${Fact} label=${t("PageForecast")}><${Forecast} row=${row} /><//>
      <${Fact} label=${t("PageReset")}>${when(row.reset)}<//>
      ${row.grant && html`<${Fact} label=${t("PageGrantHead")}>+${number(row.grant.calls)} <span class="faint">${t("PageUntil", { time: when(row.grant.until) })}${row.grant.reason && ` · ${row.grant.reason}`}</span><//>`}
      ${row.reserve && html`<${Fact} label=${t("PageReserve")}>${number(row.reserve.kept)}<span class="faint">/${number(row.reserve.calls)}</span><//>`}
    </dl>
    ${row.state === "latched" && html`<p class="note fault">${t("PageLatchedHow")}</p>`}
    ${row.state === "full" && html`<p class="note fault">${t("PageFullHow", { time: when(row.reset) })}</p>`}
    ${row.quota === "unknown" && html`<p class="note">${t("PageUnknownHow")}</p>`}
  </div>`;
}

// Callers is who used the rule today, the most first; a share or a reserve beside who has one.
function Callers({ row, shares }) {
  if (row.callers === null && shares.length === 0) return null;
  const callers = (row.callers ?? []).map((c) => ({ name: c.caller, sent: c.sent, share: shares.find((s) => s.caller === c.caller) }));
  for (const s of shares) if (!callers.some((c) => c.name === s.caller)) callers.push({ name: s.caller, sent: s.used, share: s });
  const all = callers.reduce((n, c) => n + c.sent, 0);
  return html`<section><h3>${t("PageCallers")}</h3>
    ${callers.length === 0 ? html`<${Empty}>${t("PageNoCallers")}<//>` : html`<table class="callers"><caption class="hidden">${t("PageCallers")}</caption>
      <thead class="hidden"><tr><th scope="col">${t("ExplainCaller")}</th><th scope="col">${t("PagePart")}</th><th scope="col">${t("PageCallsToday")}</th><th scope="col">%</th></tr></thead>
      <tbody>${callers.map((c, i) => html`<tr key=${c.name}>
        <th scope="row">${c.name || html`<span class="faint">${t("PageNoCaller")}</span>`}</th>
        <td class="part"><span class="bar callers" aria-hidden="true"><i class=${shade(i)} style=${{ width: `${all ? (100 * c.sent) / all : 0}%` }}></i></span></td>
        <td class="n">${number(c.sent)}${c.share?.limit && html`<span class="faint">/${number(c.share.limit)}</span>`}</td><td class="n faint">${all ? percent((100 * c.sent) / all) : ""}</td>
      </tr>`)}</tbody></table>`}
  </section>`;
}

const ranges = { day: { from: "today", step: "hour" }, week: { from: "7d", step: "hour" }, month: { from: "30d", step: "day" }, year: { from: "399d", step: "day" } };

// Past is the history of the rule.
function Past({ app, rule, limit }) {
  const [range, choose] = useState("day");
  const [by, split] = useState("caller");
  const { from, step } = ranges[range];
  const past = useAnswer((signal) => history({ app, from, step, by: `rule,${by}` }, signal), [app, rule, range, by], range === "day" ? 10_000 : 60_000);
  return html`<section class="past">
    <header><h3>${t("PageHistory")}</h3>
      <${Download} name="history" file=${`${app}-${rule}-history.csv`} request=${() => table("history", { app, from, step, by: `rule,${by}` })} />
      <span class="break"></span>
      <${Choice} label=${t("PageRange")} value=${range} onChange=${choose} of=${[["day", t("PageRangeDay")], ["week", t("PageRangeWeek")], ["month", t("PageRangeMonth")], ["year", t("PageRangeYear")]]} />
      <${Choice} label=${t("PageSplit")} value=${by} onChange=${split} of=${[["caller", t("ExplainCaller")], ["outcome", t("PageOutcome")]]} />
    </header>
    <${Answered} of=${past} lines=${5}>${(data) => html`<${Picture} data=${data} rule=${rule} by=${by} step=${step} limit=${limit} />`}<//>
  </section>`;
}

function Picture({ data, rule, by, step, limit }) {
  const [at, hover] = useState(null);
  const rows = data.rows.filter((r) => r.rule === rule);
  if (rows.length === 0) return html`<${Empty}>${t("PageNoHistory")}<//>`;
  const width = step === "hour" ? 3600 : 86_400;
  const { times, series } = seriesOf(rows, data, by, width);
  const to = times.length <= 24 && step === "hour" ? times[0] + 86_400 : times.at(-1) + width; // a day is drawn whole
  const sum = step === "hour" && by === "caller" ? sinceMidnight(times, rows) : null;
  const most = Math.max(...(sum ?? times.map((_, i) => series.reduce((n, s) => n + s.values[i], 0))));
  const drawn = limit !== null && by === "caller" && most * 4 >= limit; // else the calls would be a line at the bottom
  return html`<figure>
    <${History} times=${times.map((at) => at + width)} from=${times[0]} to=${to} series=${series} sum=${sum} limit=${drawn ? limit : null} hover=${hover} label=${t("PageHistoryOf", { rule })} />
    <figcaption class="keys">
      ${at !== null && times[at] && html`<span class="at">${stepText(times[at], step)}</span>`}
      ${series.map((s, i) => html`<span key=${s.label}><i class=${shade(i, s.refused)}></i>${s.label} <b>${number(at === null ? s.values.reduce((n, v) => n + v, 0) : (s.values[at] ?? 0))}</b></span>`)}
      ${sum && html`<span><i class="sum"></i>${t("PageSum")}${at !== null && html` <b>${number(sum[at] ?? 0)}</b>`}</span>`}
      ${limit !== null && by === "caller" && html`<span><i class="limit"></i>${t("PageLimit")} <b>${number(limit)}</b>${!drawn && html` <span class="faint">${t("PageLimitAbove")}</span>`}</span>`}
    </figcaption>
    <details><summary>${t("PageAsTable")}</summary>
      <div class="scroll" tabindex="0" role="region" aria-label=${t("PageAsTable")}><table class="plain"><thead><tr><th scope="col">${t("PageTime")}</th>${series.map((s) => html`<th scope="col" class="n" key=${s.label}>${s.label}</th>`)}</tr></thead>
        <tbody>${times.map((at, i) => series.some((s) => s.values[i]) && html`<tr key=${at}><th scope="row">${stepText(at, step)}</th>${series.map((s) => html`<td class="n" key=${s.label}>${number(s.values[i])}</td>`)}</tr>`)}</tbody></table></div>
    </details>
  </figure>`;
}

const stepText = (seconds, step) => (step === "hour" ? `${day(seconds * 1000).slice(5)} ${clock(seconds * 1000)}` : day(seconds * 1000));

const mostSeries = 5;

// seriesOf is the calls of each caller or outcome, the largest first, and what is beyond as one.
function seriesOf(rows, data, by, width) {
  const first = Math.min(...rows.map((r) => new Date(r.start) / 1000), width === 3600 ? new Date(data.from) / 1000 : Infinity);
  const times = [];
  for (let at = first; at < new Date(data.to) / 1000; at += width) times.push(at);
  const of = new Map();
  for (const r of rows) {
    const calls = by === "caller" ? r.sent : r.calls;
    if (calls === 0) continue;
    if (!of.has(r[by])) of.set(r[by], times.map(() => 0));
    const i = Math.round((new Date(r.start) / 1000 - first) / width);
    if (i >= 0 && i < times.length) of.get(r[by])[i] += calls;
  }
  const total = (values) => values.reduce((n, v) => n + v, 0);
  const sorted = [...of].map(([name, values]) => ({ label: by === "outcome" ? outcome(name) : name || t("PageNoCaller"), values, refused: by === "outcome" && name.startsWith("refused:") })).sort((x, y) => total(y.values) - total(x.values));
  const rest = sorted.splice(mostSeries - 1);
  if (rest.length === 1) sorted.push(rest[0]);
  else if (rest.length > 1) sorted.push({ label: t("PageOthers", { count: rest.length }), values: times.map((_, i) => rest.reduce((n, s) => n + s.values[i], 0)) });
  return { times, series: sorted };
}

// sinceMidnight is what a day's counter had come to at the end of each hour.
function sinceMidnight(times, rows) {
  const sent = new Map();
  for (const r of rows) sent.set(new Date(r.start) / 1000, (sent.get(new Date(r.start) / 1000) ?? 0) + r.sent);
  let sum = 0;
  return times.map((at, i) => {
    if (i === 0 || day(at * 1000) !== day(times[i - 1] * 1000)) sum = 0;
    return (sum += sent.get(at) ?? 0);
  });
}

// WeChat is what WeChat itself counts, and what to make of a difference.
function WeChat({ row }) {
  const w = row.wechat;
  if (!w && !row.startUnknown) return null;
  return html`<section><h3>${t("PageWeChat")}</h3>
    <dl class="facts">
      ${w && html`<${Fact} label=${t("HeadWeChat")}>${number(w.used)}<span class="faint">/${w.limit === null ? t("NotPublished") : number(w.limit)}</span><//>
      ${w.drift !== null && html`<${Fact} label=${t("HeadDrift")}><span class=${classes(w.drift > 0 && "bad")}>${w.drift > 0 ? "+" : ""}${number(w.drift)}</span><//>`}
      <${Fact} label=${t("HeadReadAt")}>${when(w.at)}<//>`}
    </dl>
    ${w?.drift > 0 && html`<p class="note">${t("PageDriftHow", { calls: number(w.drift) })}</p>`}
    ${row.startUnknown && html`<p class="note">${t("PageStartHow")}</p>`}
  </section>`;
}
