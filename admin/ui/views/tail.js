// Tail: calls as they end, streamed.
import { classes, html, useEffect, useRef, useState } from "../dom.js";
import { tail } from "../api.js";
import { Choice, Empty, problemText } from "../parts.js";
import { number, outcome, reason, seconds, t } from "../words.js";

const kept = 300; // lines on the page
const againAfter = 3000; // milliseconds, once the stream has ended

export function Tail({ filter, begun }) {
  const [running, run] = useState(begun);
  const [only, choose] = useState(filter.reason ? "refused" : "all");
  const [lines, set] = useState([]);
  const [dropped, drop] = useState(0);
  const [fault, fail] = useState(null);
  const count = useRef(0);
  const box = useRef(null);
  useEffect(() => {
    if (begun) box.current.scrollIntoView({ block: "start" });
  }, []);
  useEffect(() => {
    if (!running) return;
    const abort = new AbortController();
    const take = (calls) => {
      fail(null);
      drop((n) => n + calls.reduce((sum, c) => sum + (c.dropped ?? 0), 0));
      const fresh = calls.filter((c) => c.dropped === undefined).map((c) => ({ ...c, n: ++count.current }));
      set((old) => [...fresh.reverse(), ...old].slice(0, kept));
    };
    let timer = 0;
    const watch = async () => {
      try {
        await tail({ ...filter, refused: only === "refused" }, take, abort.signal);
      } catch (error) {
        if (abort.signal.aborted) return;
        fail(error);
      }
      if (!abort.signal.aborted) timer = setTimeout(watch, againAfter);
    };
    watch();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [running, only]);
  const resume = () => {
    set((old) => (old.length && !old[0].mark ? [{ ...old[0], mark: true }, ...old.slice(1)] : old));
    run(true);
  };
  return html`<section class="panel tail" aria-labelledby="tail" ref=${box}>
    <header><h2 id="tail">${t("PageTail")}</h2>${running && !fault && html`<span class="fresh"><i aria-hidden="true"></i>${t("PageLive")}</span>`}<span class="push"></span>
      <${Choice} label=${t("PageShow")} value=${only} onChange=${choose} of=${[["all", t("PageAllCalls")], ["refused", t("PageRefused")]]} />
      <button class=${running ? "" : "main"} onClick=${running ? () => run(false) : resume}>${running ? t("PagePause") : lines.length ? t("PageResume") : t("PageStart")}</button>
      ${lines.length > 0 && html`<button class="quiet" onClick=${() => set([])}>${t("PageEmpty")}</button>`}
    </header>
    ${fault && html`<p class="note fault" role="alert">${problemText(fault)}</p>`}
    ${dropped > 0 && html`<p class="note stale">${t("PageDropped", { count: number(dropped) })}</p>`}
    ${lines.length === 0 ? !fault && html`<${Empty}>${running ? t("PageWaiting") : t("PageTailHow")}<//>` : html`<div class="scroll" tabindex="0" role="log" aria-live="off" aria-label=${t("PageTail")}>
      <table class="lines"><thead class="hidden"><tr><th scope="col">${t("PageTime")}</th><th scope="col">${t("PageDecision")}</th><th scope="col">${t("ExplainApp")}</th><th scope="col">${t("HeadRule")}</th><th scope="col">${t("ExplainCaller")}</th><th scope="col">${t("ExplainCall")}</th><th scope="col">errcode</th><th scope="col">ms</th></tr></thead>
        <tbody>${lines.map((c) => html`<${Line} key=${c.n} call=${c} />`)}</tbody></table>
    </div>`}
  </section>`;
}

function Line({ call: c }) {
  const refused = c.decision.startsWith("refused-");
  return html`<tr class=${classes(refused && "refused", c.mark && "mark")} title=${c.id}>
    <td class="time">${seconds(c.time)}</td>
    <td><span class=${classes("decision", refused && "bad")} title=${c.reason || c.decision}>${c.reason ? reason(c.reason) : outcome(c.decision)}</span></td>
    <td class="app">${c.app}</td><td class="rule"><code>${c.rule}</code></td><td class="caller">${c.caller || html`<span class="faint">—</span>`}</td>
    <td class="call"><code>${c.method} ${c.path}</code></td>
    <td class="n">${c.errcode ? html`<span class="bad">${c.errcode}</span>` : html`<span class="faint">0</span>`}</td>
    <td class="n faint">${c.milliseconds === null ? "" : c.milliseconds < 1 ? "<1 ms" : `${number(Math.round(c.milliseconds))} ms`}</td>
  </tr>`;
}
