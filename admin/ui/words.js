// Texts, numbers and times in the language of the page. The texts are those of the commands: one dictionary.
import { begun, browser } from "./kept.js";

const here = new URL(".", import.meta.url);
const loaded = {}; // by language
let now = { language: "", messages: {}, patterns: [] };

// preferred is the language chosen before, or the browser's.
export const preferred = () => browser.get("language") ?? (/^zh\b/i.test(navigator.language) ? "zh" : "en");

// speak sets the language of the page.
export async function speak(language) {
  if (!loaded[language]) {
    const address = new URL(`words/${language}.json`, here);
    const answer = await (begun(address) ?? fetch(address));
    if (!answer.ok) throw new Error(`words: HTTP ${answer.status}`);
    loaded[language] = compile(await answer.json());
  }
  now = loaded[language];
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  browser.set("language", language);
}

export const language = () => now.language;

// t is a text with its parameters filled in.
export function t(key, parameters) {
  const text = now.messages[key] ?? key;
  return parameters ? text.replace(/\{([a-z]+)\}/g, (all, name) => parameters[name] ?? all) : text;
}

// reason is a word of docs/reasons.md in plain words, and outcome a decision or an outcome of a call. One that is not known stays.
export const reason = (word) => now.messages[`reason.${word}`] ?? word;
export const outcome = (word) => (word.startsWith("refused:") ? reason(word.slice(8)) : (now.messages[`outcome.${word}`] ?? word.replace(":", " ")));

function compile({ language, messages, patterns }) {
  const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return {
    language,
    messages,
    patterns: (patterns ?? []).map(([en, zh]) => {
      const names = en.match(/\{[a-z]+\}/g) ?? [];
      const expr = en.split(/\{[a-z]+\}/).map(escape).join("(.+?)");
      return { zh, names, match: new RegExp(`^${expr}$`) };
    }),
  };
}

// translate turns a text that the gateway has composed in English into the language of the page, as
// words.Language.Translate does: line by line, and in a line by the parts between ": " or "; ".
export function translate(text) {
  if (!text || now.patterns.length === 0) return text ?? "";
  return text.split("\n").map(translateLine).join("\n");
}

function translateLine(line) {
  const parts = line.split(/(: |; )/); // texts and separators in turn
  let out = "";
  for (let at = 0; at < parts.length; ) {
    let n = Math.ceil((parts.length - at) / 2);
    let found = null;
    for (; n > 0 && found === null; n--) found = matched(parts.slice(at, at + 2 * n - 1).join(""));
    n++;
    if (found === null) [n, found] = [1, parts[at]];
    out += found + (parts[at + 2 * n - 1] ?? "");
    at += 2 * n;
  }
  return out;
}

function matched(text) {
  for (const { zh, names, match } of now.patterns) {
    const found = match.exec(text);
    if (!found || found.slice(1).some((value) => /: |; /.test(value))) continue;
    return names.reduce((out, name, i) => out.replaceAll(name, () => translate(found[i + 1])), zh);
  }
  return null;
}

export const number = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ","); // Intl takes 10 ms to begin, before the first paint

export const percent = (p) => (p > 0 && p < 0.1 ? "<0.1%" : p < 10 && p % 1 !== 0 ? `${p.toFixed(1)}%` : `${Math.floor(p)}%`);

// Times are shown in the zone of the quota windows, which is not always the browser's: it is where days end.
let offset = null; // minutes
export function zone(text) {
  const found = /([+-])(\d\d):(\d\d)$/.exec(text ?? "");
  if (found) offset = (found[1] === "-" ? -1 : 1) * (60 * Number(found[2]) + Number(found[3]));
}

// zoneOf sets the zone by its name.
export function zoneOf(name) {
  try {
    const parts = new Intl.DateTimeFormat("en", { timeZone: name, timeZoneName: "longOffset" }).formatToParts();
    zone(parts.find((p) => p.type === "timeZoneName").value.replace("GMT", "") || "+00:00");
  } catch {
    // The browser does not know it: what was known before holds.
  }
}

export const minutesOffset = () => offset ?? -new Date().getTimezoneOffset();
export function zoneName() {
  const minutes = Math.abs(minutesOffset());
  return `UTC${minutesOffset() < 0 ? "−" : "+"}${Math.floor(minutes / 60)}${minutes % 60 ? `:${minutes % 60}` : ""}`;
}

// local is a time as fields of the zone: its UTC parts are those to show.
export const local = (time) => new Date(new Date(time).getTime() + minutesOffset() * 60_000);
const iso = (time) => local(time).toISOString();
export const day = (time) => iso(time).slice(0, 10);
export const clock = (time) => iso(time).slice(11, 16);
export const seconds = (time) => iso(time).slice(11, 19);
export const hour = (time) => local(time).getUTCHours();

// when is the clock, with the day in front unless that is today. The end of today is 24:00.
export function when(time) {
  if (day(time) === day(Date.now())) return clock(time);
  const midnight = clock(time) === "00:00" && day(new Date(time).getTime() - 1) === day(Date.now());
  return midnight ? "24:00" : `${day(time).slice(5)} ${clock(time)}`;
}

// span is a length of time in its largest two units.
export function span(milliseconds) {
  const minutes = Math.round(Math.abs(milliseconds) / 60_000);
  if (minutes < 1) return t("PageUnderMinute");
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60)];
  if (days > 0) return t("PageDaysHours", { days, hours });
  if (hours > 0) return t("PageHoursMinutes", { hours, minutes: minutes % 60 });
  return t("PageMinutes", { minutes });
}
