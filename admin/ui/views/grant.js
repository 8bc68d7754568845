// Grant: more calls of an API until its window ends or a time before, with a reason.
import { html, useId, useState } from "../dom.js";
import { grant } from "../api.js";
import { Dialog, problemText } from "../parts.js";
import { number, t, when } from "../words.js";

export function Grant({ app, row, done, onClose }) {
  const [fault, fail] = useState(null);
  const [granted, set] = useState(null);
  const [busy, work] = useState(false);
  const id = useId();
  const change = async (what, calls) => {
    work(true);
    try {
      await grant({ app, counter: row.counter, ...what });
      set(calls);
      fail(null);
      done();
    } catch (error) {
      fail(error);
    }
    work(false);
  };
  const send = (e) => {
    e.preventDefault();
    const form = new FormData(e.target);
    const [calls, hours] = [Number(form.get("calls")), Number(form.get("hours"))];
    const until = hours ? new Date(Math.min(Date.now() + hours * 3_600_000, new Date(row.reset))).toISOString() : undefined;
    change({ calls, until, reason: form.get("reason").trim() }, calls);
  };
  return html`<${Dialog} title=${t("PageGrantTitle", { app, rule: row.counter })} onClose=${onClose}>
    ${granted !== null ? html`<p class="note good" role="status">${granted === 0 ? t("PageGrantEnded") : t("PageGrantDone", { calls: number(granted) })}</p>` : html`<form class="fields" onSubmit=${send}>
      <p>${t("PageGrantWhat")}</p>
      <label for=${`${id}c`}>${t("PageGrantCalls")}</label><input id=${`${id}c`} name="calls" autofocus type="number" min="1" max="1000000000" step="1" required inputmode="numeric" />
      <label for=${`${id}h`}>${t("PageGrantUntil")}</label><select id=${`${id}h`} name="hours"><option value="0">${t("PageGrantWindow", { time: when(row.reset) })}</option>${[1, 4, 12].map((h) => html`<option key=${h} value=${h}>${t("PageGrantHours", { hours: h })}</option>`)}</select>
      <label for=${`${id}r`}>${t("PageGrantReason")}</label><input id=${`${id}r`} name="reason" required maxlength="200" autocomplete="off" />
      ${fault && html`<p class="note fault" role="alert">${problemText(fault)}</p>`}
      <footer>${row.grant && html`<button type="button" disabled=${busy} onClick=${() => change({ calls: null }, 0)}>${t("PageGrantEnd", { calls: number(row.grant.calls) })}</button>`}<button class="main" disabled=${busy}>${t("PageGrantNow")}</button></footer>
    </form>`}
  <//>`;
}
