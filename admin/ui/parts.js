// The small pieces that views are made of.
import { classes, html, useEffect, useId, useRef, useState } from "./dom.js";
import { Problem } from "./api.js";
import { language, number, percent, span, t, translate, when, clock } from "./words.js";

// How near its limit a counter is, as the bars and states show it.
export const nearly = 80;
export const almost = 95;

export function level(row) {
  if (row.state === "latched" || row.state === "full") return "out";
  if (row.percent === null) return "none";
  if (row.percent >= almost) return "almost";
  return row.percent >= nearly ? "nearly" : "open";
}

// Bar is the part of a limit that is used. Without a limit there is none to draw.
export function Bar({ row }) {
  if (row.percent === null) return html`<span class="bar none" aria-hidden="true"></span>`;
  const part = Math.min(100, row.percent);
  return html`<span class=${`bar ${level(row)}`} aria-hidden="true"><i style=${{ width: `${part > 0 ? Math.max(part, 0.8) : 0}%` }}></i></span>`;
}

// limitText is what stands behind the stroke of the console's 12/2000: words where there is no figure.
export function limitText(row) {
  if (row.limit !== null) return number(row.limit);
  return row.quota === "unlimited" ? t("Unlimited") : t("NotPublished");
}

export function Amount({ row }) {
  if (row.state === "denied") return html`<span class="faint">—</span>`;
  const text = html`<b>${number(row.used)}</b><span class="faint">/${limitText(row)}</span>`;
  return html`<span class="amount">${row.period === "month" ? html`${text} <small>${t("PageMonth")}</small>` : text}</span>`;
}

// Part is a counter in a table: its figures, and the bar below them. Where the state has no column it is named here.
export function Part({ row, named }) {
  const near = level(row);
  return html`<span class="figures"><${Amount} row=${row} />${row.grant && html`<small class="tag" title=${t("PageGranted", { calls: number(row.grant.calls), time: when(row.grant.until) })}>+${number(row.grant.calls)}</small>`}
    <span class=${classes("push n", (near === "out" || near === "almost") && "bad")}>${named && row.state === "latched" ? t("StateLatched") : row.percent === null || row.used === 0 ? "" : percent(row.percent)}</span></span><${Bar} row=${row} />`;
}

const states = { denied: "StateDenied", full: "StateFull", latched: "StateLatched", open: "StateOpen" };

// State is the console's 接口状态: a mark and a word, never a colour alone.
export function State({ row }) {
  const kind = states[row.state] ? row.state : "open";
  return html`<span class=${`state ${kind}`}>${stateText(kind)}</span>`;
}

export function stateText(kind) {
  switch (kind) {
    case "denied":
      return t("StateDenied");
    case "full":
      return t("StateFull");
    case "latched":
      return t("StateLatched");
    default:
      return t("StateOpen");
  }
}

// Name is an API by its title, which is the console's, and the rule. In English the rule comes first.
export function Name({ row }) {
  const rule = html`<code>${row.rule}${row.path && html`<wbr />:${row.path}`}${row.caller && `@${row.caller}`}</code>`;
  const title = row.title && html`<span lang="zh-CN">${row.title}</span>`;
  return language() === "zh" && title ? html`<span class="name">${title}${rule}</span>` : html`<span class="name">${rule}${title}</span>`;
}

// Forecast is when a counter runs out, or how many calls are left of a small one; a dash where that is not known.
export function Forecast({ row }) {
  if (row.state === "full" || row.state === "latched") return html`<span class="bad">${t("PageUntil", { time: when(row.reset) })}</span>`;
  const f = row.forecast;
  if (!f || (f.runsOut === null && f.left === null)) return html`<span class="faint" title=${t("PageNoForecast")}>—</span>`;
  const soon = f.runsOut !== null && new Date(f.runsOut) - Date.now() < 2 * 3_600_000;
  return html`<span class=${classes(soon && "bad")}>
    ${f.runsOut !== null && t("PageRunsOut", { time: when(f.runsOut) })}
    ${f.runsOut !== null && f.left !== null && " · "}${f.left !== null && t("PageCallsLeft", { left: number(f.left) })}
  </span>`;
}

// Token is the life of an access_token, or what is wrong with it.
export function Token({ token, long }) {
  if (token === null) return html`<span class="faint" title=${t("PageTokenUnknown")}>—</span>`;
  const bad = ["refused", "failing", "dead"].includes(token.state);
  const life = token.expires && new Date(token.expires) > Date.now() ? t("PageTokenUntil", { time: when(token.expires) }) : "";
  const text = tokenText(token.state);
  return html`<span class=${classes("token", bad && "bad")} title=${bad ? translate(token.error) : life}>
    <i class=${`dot ${bad ? "out" : token.state === "good" ? "open" : "none"}`} aria-hidden="true"></i>${text}${long && life && html` <span class="faint">${life}</span>`}
  </span>`;
}

function tokenText(state) {
  switch (state) {
    case "good":
      return t("PageTokenGood");
    case "none":
      return t("PageTokenNone");
    case "expired":
      return t("PageTokenExpired");
    case "dead":
      return t("PageTokenDead");
    case "refused":
      return t("PageTokenRefused");
    default:
      return t("PageTokenFailing");
  }
}

// problemText is an error in the language of the page.
export function problemText(error) {
  if (!(error instanceof Problem)) return t("PageBroken", { error: String(error) });
  if (error.status === 0) return t("PageNoAnswer");
  return error.status === 501 ? t("PageNotOffered") : translate(error.message);
}

// Answered draws what useAnswer returns: outlines before the first answer, the fault in its place, and what was
// answered last, marked as old, when there is no newer one.
export function Answered({ of, lines = 4, children }) {
  if (of.data !== null) {
    return html`${of.error && html`<p class="note stale" role="status">${t("PageStale", { age: span(Date.now() - of.at) })} ${problemText(of.error)}</p>`}${children(of.data)}`;
  }
  if (of.error) {
    return html`<p class="note fault" role="alert">${problemText(of.error)}${" "}<button class="link" onClick=${of.again}>${t("PageRetry")}</button></p>`;
  }
  return html`<div class="outline" aria-busy="true" aria-label=${t("PageLoading")}>${Array.from({ length: lines }, (_, i) => html`<i key=${i}></i>`)}</div>`;
}

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

// Choice is a few values of which one holds, as a row of buttons.
export function Choice({ label, value, of, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${of.map(([key, text]) => html`<button key=${key} aria-pressed=${key === value ? "true" : "false"} onClick=${() => onChange(key)}>${text}</button>`)}
  </div>`;
}

export function Search({ label, value, onInput }) {
  return html`<input class="search" type="search" aria-label=${label} placeholder=${label} value=${value} spellcheck="false" autocomplete="off" onInput=${(e) => onInput(e.target.value)} />`;
}

// Dialog is a modal one. The browser keeps the focus in it, and Escape closes it.
export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  const id = useId();
  useEffect(() => {
    box.current.showModal();
  }, []);
  return html`<dialog ref=${box} aria-labelledby=${id} onClose=${onClose} onClick=${(e) => e.target === box.current && box.current.close()}>
    <div class="sheet">
      <header><h2 id=${id}>${title}</h2><button class="quiet" aria-label=${t("PageClose")} onClick=${() => box.current.close()}>✕</button></header>
      ${children}
    </div>
  </dialog>`;
}

// Download offers what is on the screen as a file.
export function Download({ name, file, request }) {
  const [failed, fail] = useState(null);
  const save = async () => {
    try {
      const address = URL.createObjectURL(await request());
      const link = document.createElement("a");
      link.href = address;
      link.download = file ?? `${name}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
      fail(null);
    } catch (error) {
      fail(error);
    }
  };
  return html`<span><button class="quiet" title=${t("PageCSVTitle")} onClick=${save}>CSV</button>${failed && html`<span class="bad" role="alert"> ${problemText(failed)}</span>`}</span>`;
}

// Fact is a figure with its label.
export const Fact = ({ label, children }) => html`<div class="fact"><dt>${label}</dt><dd>${children}</dd></div>`;

// Fresh says whether what is shown is of now.
export const Fresh = ({ of }) => of.at && html`<span class=${classes("fresh", of.error && "stale")} title=${t("PageReadAt", { time: clock(of.at) })}><i aria-hidden="true"></i>${of.error ? t("PageOld") : t("PageLive")}</span>`;
