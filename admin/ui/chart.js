// Charts: small bars as SVG, and uPlot, fetched when the first chart needs it.
import { html, useEffect, useRef, useState } from "./dom.js";
import { useTheme } from "./use.js";
import { minutesOffset, number, t } from "./words.js";

// Spark is the calls of each hour of today, and the refused ones on top of them.
export function Spark({ hours, now, label, large }) {
  const most = Math.max(1, ...hours.map((h) => (h ? h.calls : 0)));
  const [width, height] = large ? [960, 120] : [120, 24];
  const step = width / 24;
  const bar = (i, from, to, kind) => {
    const y = height - (to / most) * height;
    return html`<rect class=${kind} x=${(i * step + step * 0.12).toFixed(1)} y=${y.toFixed(1)} width=${(step * 0.76).toFixed(1)} height=${Math.max(0.8, ((to - from) / most) * height).toFixed(1)} />`;
  };
  return html`<svg class=${large ? "spark large" : "spark"} viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label=${label}>
    ${hours.map((h, i) => i > now ? html`<rect class="ahead" x=${i * step + step * 0.12} y=${height - 1} width=${step * 0.76} height="1" />` : html`
      ${!h || h.calls === 0 ? html`<rect class="ahead" x=${i * step + step * 0.12} y=${height - 1} width=${step * 0.76} height="1" />` : null}
      ${h && h.calls > h.refused && bar(i, 0, h.calls - h.refused, "sent")}
      ${h && h.refused > 0 && bar(i, h.calls - h.refused, h.calls, "refused")}`)}
  </svg>`;
}

const load = (kind, attributes) => new Promise((resolve, reject) => {
  const element = Object.assign(document.createElement(kind), attributes);
  element.onload = resolve;
  element.onerror = () => reject(new Error("uPlot"));
  document.head.prepend(element); // before style.css, which has the last word
});

let library = null; // a promise of uPlot
function plot() {
  const at = (name) => new URL(`vendor/${name}`, import.meta.url);
  library ??= Promise.all([
    load("script", { src: at("uPlot.iife.min.js") }),
    load("link", { rel: "stylesheet", href: at("uPlot.min.css") }),
  ]).then(() => window.uPlot);
  return library;
}

// colour is a colour of the style sheet as the theme of now has it.
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// shade is the colour of the i-th series; what was refused has that of a limit.
const shades = ["series-1", "series-2", "series-3", "series-4", "series-5"];
export const shade = (i, refused) => (refused ? "series-out" : shades[Math.min(i, shades.length - 1)]);

// History draws bars stacked by series, the sum since midnight as a line if there is one, and the limit.
// times are the ends of the steps in seconds, from and to what is drawn; series are {label, values, refused}; the first is
// at the bottom. hover is called with the index of the step under the pointer, or null.
export function History({ times, from, to, series, sum, limit, label, hover }) {
  const box = useRef(null);
  const [failed, fail] = useState(false);
  const theme = useTheme();
  const key = JSON.stringify([from, to, series.map((s) => s.label), sum !== null, limit, theme, t("PageSum")]);
  const chart = useRef(null);
  const data = stacked({ times, from, to, series, sum, limit });
  useEffect(() => {
    let gone = false;
    let resize = null;
    const at = box.current;
    plot().then((uPlot) => {
      if (gone) return;
      const size = () => ({ width: Math.max(200, at.clientWidth), height: 210 });
      chart.current = new uPlot({ ...options(uPlot, { times, from, to, series, sum, limit, hover }), ...size() }, data.values, at);
      resize = new ResizeObserver(() => chart.current?.setSize(size()));
      resize.observe(at);
    }, () => fail(true));
    return () => {
      gone = true;
      resize?.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
  }, [key]);
  useEffect(() => {
    chart.current?.setData(data.values);
  }, [JSON.stringify(data.values)]);
  if (failed) return html`<p class="note fault">${t("PageNoChart")}</p>`;
  return html`<div class="chart" ref=${box} role="img" aria-label=${label}></div>`;
}

// stacked adds the series up from the bottom, and puts them the tallest first, so that each later one covers the lower
// part. The line of the sum begins at 0, and that of the limit goes from edge to edge.
function stacked({ times, from, to, series, sum, limit }) {
  const x = [from, ...times];
  if (x.at(-1) < to) x.push(to);
  const wide = (values, first) => [first, ...values, ...Array(x.length - 1 - times.length).fill(null)];
  const tops = [];
  let below = times.map(() => 0);
  for (const s of series) {
    below = below.map((value, i) => value + (s.values[i] ?? 0));
    tops.unshift(wide(below, null));
  }
  const values = [x, ...tops];
  if (sum) values.push(wide(sum, 0));
  if (limit !== null) values.push(x.map(() => limit));
  return { values };
}

function options(uPlot, { times, from, to, series, sum, limit, hover }) {
  const [ink, line, accent, warn] = ["faint", "line", "accent", "out"].map(colour);
  const axis = { stroke: ink, font: "11px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const bars = series.map((s, i) => {
    const fill = colour(shade(i, s.refused));
    return { label: s.label, fill, stroke: fill, width: 0, paths: uPlot.paths.bars({ size: [0.72, 28], align: -1 }), points: { show: false } };
  });
  const lines = [];
  if (sum) lines.push({ label: t("PageSum"), stroke: accent, width: 1.75, points: { show: false } });
  if (limit !== null) lines.push({ label: t("PageLimit"), stroke: warn, width: 1.25, dash: [5, 4], points: { show: false } });
  return {
    series: [{}, ...bars.reverse(), ...lines],
    legend: { show: false },
    hooks: { setCursor: [(u) => hover(u.cursor.idx > 0 && u.cursor.idx <= times.length ? u.cursor.idx - 1 : null)] },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    tzDate: zoned,
    scales: { x: { range: [from, to] }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.08)] } },
    axes: [{ ...axis, grid: { show: false }, values: dates, space: 56, size: 28, gap: 4 }, { ...axis, size: 48, values: (_, all) => all.map((n) => (n % 1 ? "" : short(n))) }],
    padding: [8, 18, 0, 0],
  };
}

// short is a number of an axis: 12k for 12,000.
const short = (n) => (n >= 1e6 ? `${number(n / 1e6)}M` : n >= 1e4 ? `${number(n / 1e3)}k` : number(n));

const two = (n) => String(n).padStart(2, "0");

// zoned is a time whose local parts are those of the zone of the windows.
const zoned = (seconds) => new Date((seconds + (minutesOffset() + new Date(seconds * 1000).getTimezoneOffset()) * 60) * 1000);

// dates are labels of the time axis: the hour, and the day where one begins.
function dates(_, all, __, ___, step) {
  return all.map((seconds) => {
    const d = zoned(seconds);
    const date = `${two(d.getMonth() + 1)}-${two(d.getDate())}`;
    return step >= 86_400 || (d.getHours() === 0 && d.getMinutes() === 0) ? date : `${two(d.getHours())}:${two(d.getMinutes())}`;
  });
}
