// Clear: what it starts over, what it costs, and only then the button.
import { html, useState } from "../dom.js";
import { clear, clearPlan } from "../api.js";
import { Answered, Dialog, Empty, Name, problemText } from "../parts.js";
import { useAnswer } from "../use.js";
import { number, t, translate, when } from "../words.js";

export function Clear({ app, rule, done, onClose }) {
  const plan = useAnswer((signal) => clearPlan(app, rule, signal), [app, rule]);
  const [result, set] = useState(null);
  const [fault, fail] = useState(null);
  const [busy, work] = useState(false);
  const send = async () => {
    work(true);
    try {
      set(await clear(app, rule));
      fail(null);
      done();
    } catch (error) {
      fail(error);
    }
    work(false);
  };
  return html`<${Dialog} title=${rule ? t("PageClearTitle", { app, rule }) : t("PageClearTitleAll", { app })} onClose=${onClose}>
    ${result ? html`<${Result} of=${result} />` : html`<${Answered} of=${plan}>${(p) => html`<${Plan} of=${p} busy=${busy} send=${send} />`}<//>`}
    ${fault && html`<p class="note fault" role="alert">${problemText(fault)}</p>`}
  <//>`;
}

function Plan({ of, busy, send }) {
  const left = of.clears?.left ?? null;
  const enough = left === null || left >= of.cost;
  return html`
    <p>${t("PageClearWhat")}</p>
    ${of.rows.length === 0 ? html`<${Empty}>${t("PageClearNothing")}<//>` : html`<div class="scroll"><table class="plain"><tbody>${of.rows.map((r) => html`<tr key=${r.rule + r.path}><th scope="row"><${Name} row=${r} /></th><td class="n">${number(r.used)}${r.limit !== null && html`<span class="faint">/${number(r.limit)}</span>`}</td><td class="n">→ 0</td></tr>`)}</tbody></table></div>`}
    <p class=${enough ? "cost" : "cost bad"}>${left === null ? t("PageClearCostUnknown", { cost: of.cost }) : t("PageClearCost", { cost: of.cost, left: number(left), limit: number(of.clears.limit), time: when(of.clears.reset) })}</p>
    <footer><button class="danger" disabled=${busy || !enough} onClick=${send}>${busy ? t("PageWorking") : t("PageClearNow")}</button></footer>`;
}

function Result({ of }) {
  return html`<p class=${of.done ? "note good" : "note fault"} role="status">${of.done ? t("PageClearDone") : t("PageClearNotAll")}</p>
    <ul>${of.steps.map((s) => html`<li key=${s.path}>${s.path && html`<code>${s.path}</code> `}${translate(s.statement)}</li>`)}</ul>
    ${of.clears && html`<p class="faint">${t("PageClearsLeft", { left: number(of.clears.left), limit: number(of.clears.limit) })}</p>`}`;
}
