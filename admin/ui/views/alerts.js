// Alerts: whether each sink takes messages, and what was sent.
import { classes, html, useState } from "../dom.js";
import { testAlerts } from "../api.js";
import { Answered, Empty, Fresh, Name, problemText } from "../parts.js";
import { to } from "../use.js";
import { number, t, translate, when } from "../words.js";

// Sinks shows the state of each, and sends a test message to each.
export function Sinks({ of }) {
  const [results, set] = useState(null);
  const [fault, fail] = useState(null);
  const [busy, work] = useState(false);
  const test = async () => {
    work(true);
    try {
      set(await testAlerts());
      fail(null);
    } catch (error) {
      fail(error);
    }
    work(false);
    of.again();
  };
  return html`<section class="panel" aria-labelledby="alerts"><header><h2 id="alerts">${t("PageAlerts")}</h2></header>
    <${Answered} of=${of}>${(data) => (data.sinks.length === 0 ? html`<${Empty}>${t("PageAlertsNoSink")}<//>` : html`<table class="plain sinks"><tbody>${data.sinks.map((s) => html`<tr key=${s.sink}>
      <th scope="row"><i class=${`dot ${{ good: "open", unused: "none" }[s.state] ?? "out"}`} aria-hidden="true"></i>${s.sink} <small class="faint">${s.kind}</small></th>
      <td class=${classes(s.error && "bad")}>${sinkText(s)}${s.error && html`<br />${translate(s.error)}`}${s.waiting > 0 && html`<br />${t("SinkWaiting", { count: number(s.waiting) })}`}</td></tr>`)}</tbody></table>`)}<//>
    ${results && html`<div class="note" role="status">${results.map((r) => html`<p key=${r.sink} class=${classes(r.error && "bad")}>${r.sink} ${r.error ? translate(r.error) : t("PageAlertsTaken")}</p>`)}</div>`}
    ${fault && html`<p class="note fault" role="alert">${problemText(fault)}</p>`}
    ${of.data?.sinks.length > 0 && html`<p class="inset"><button title=${t("PageAlertsHow")} disabled=${busy} onClick=${test}>${busy ? t("PageAlertsSending") : t("PageAlertsTest")}</button></p>`}
  </section>`;
}

function sinkText(s) {
  switch (s.state) {
    case "good":
      return t("SinkGood", { time: when(s.taken) });
    case "failing":
      return t("SinkFailing", { time: when(s.tried) });
    case "silenced":
      return t("SinkSilenced", { time: when(s.tried) });
    default:
      return t("SinkUnused");
  }
}

// Sent is the list of alerts, the newest first.
export function Sent({ of }) {
  return html`<section class="panel" aria-labelledby="sent"><header><h2 id="sent">${t("PageAlertsSent")}</h2><${Fresh} of=${of} />${of.data?.list.length > 0 && html`<span class="faint">${t("PageAlertsLast", { count: number(of.data.list.length) })}</span>`}</header>
    <${Answered} of=${of}>${(data) => html`
      ${data.error && html`<p class="note stale" role="status">${t("PageAlertsOld", { error: translate(data.error) })}</p>`}
      ${data.list.length === 0 ? html`<${Empty}>${t("PageAlertsNone")}<//>` : html`<div class="scroll" tabindex="0"><table class="tokens sent"><caption class="hidden">${t("PageAlertsSent")}</caption>
        <thead><tr><th scope="col">${t("HeadAlertTime")}</th><th scope="col">${t("ExplainApp")}</th><th scope="col">${t("HeadEvent")}</th><th scope="col">${t("HeadRule")}</th><th scope="col">${t("HeadDelivery")}</th></tr></thead>
        <tbody>${data.list.map((a, i) => html`<tr key=${data.list.length - i}>
          <td class="time">${when(a.time)}</td>
          <td>${a.app || a.appid ? html`<a href=${to("app", a.app || a.appid, { rule: a.rule })}>${a.app || a.appid}</a>` : ""}</td>
          <th scope="row">${alertText(a)}${a.reason && html`<br /><small class="faint">${translate(a.reason)}</small>`}</th>
          <td>${a.rule ? html`<${Name} row=${a} />` : ""}</td>
          <td>${a.sinks.map((r) => html`<div key=${r.sink} class=${classes(r.error && "bad")}>${r.sink} ${resultText(r.result)}${r.error && html`<br /><small>${translate(r.error)}</small>`}</div>`)}</td>
        </tr>`)}</tbody></table></div>`}`}<//>
  </section>`;
}

function resultText(result) {
  switch (result) {
    case "sent":
      return t("AlertResultSent");
    case "refused":
      return t("AlertResultRefused");
    case "failed":
      return t("AlertResultFailed");
    case "dropped":
      return t("AlertResultDropped");
    default:
      return t("AlertResultWaiting");
  }
}

// alertText is an alert in a few words, as `wxproxy alert list` has it.
function alertText(a) {
  const event = eventText(a);
  if (a.state === "over") return t("AlertOver", { event });
  return a.state === "still" ? t("AlertStill", { event }) : event;
}

function eventText(a) {
  switch (a.event) {
    case "used":
      return t("AlertUsed", { percent: Math.floor((a.used * 100) / Math.max(1, a.limit)), used: number(a.used), limit: number(a.limit) });
    case "clears_used":
      return t("AlertClearsUsed", { used: number(a.used), limit: number(a.limit) });
    case "forecast":
      return t("AlertForecast", { time: when(a.forecast), used: number(a.used), limit: number(a.limit) });
    case "latched":
      return t("AlertLatched");
    case "fuse":
      return t("AlertFuse", { caller: a.caller || t("AlertNoKey"), errcode: a.errcode });
    case "token_refused":
      return a.ip ? t("AlertTokenAddress", { ip: a.ip }) : t("AlertTokenRefused", { errcode: a.errcode });
    case "token_ending":
      return t("AlertTokenEnding");
    case "store_down":
      return t("AlertStoreDown", { gateway: a.gateway });
    case "reload_failed":
      return t("AlertReloadFailed", { gateway: a.gateway });
    case "log_dropped":
      return t("AlertLogDropped", { gateway: a.gateway });
    case "drift":
      return t("AlertDrift", { calls: number(a.wechat - a.used) });
    case "digest":
      return t("AlertDigest");
    case "test":
      return t("AlertTestMessage");
    default:
      return a.event;
  }
}
