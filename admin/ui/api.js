// The one place that knows the paths and fields of /api/v1. Views get what is below, and nothing else of the answers.
import { begun, painted, tab } from "./kept.js";
import { zone, zoneOf } from "./words.js";

let token = tab.get("token");
let signedOut = () => {};

export const signedIn = () => token !== null;
export const onSignedOut = (call) => (signedOut = call);
export function signOut() {
  token = null;
  tab.set("token", null);
  signedOut();
}

// Problem is an answer that is none: what the gateway says in its place.
export class Problem extends Error {
  constructor(status, text, known) {
    super(text);
    this.status = status; // 0: the gateway was not reached
    this.known = known ?? [];
  }
}

async function ask(method, path, { query, body, signal, key = token } = {}) {
  const parameters = new URLSearchParams(Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== ""));
  const headers = {};
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const address = `${path}${parameters.size ? `?${parameters}` : ""}`;
  let answer;
  try {
    answer = await ((method === "GET" && begun(address)) || fetch(address, {
      method, headers, signal, cache: "no-store", redirect: "error", credentials: "omit", body: body === undefined ? undefined : JSON.stringify(body),
    }));
  } catch (err) {
    if (err.name === "AbortError") throw err;
    throw new Problem(0, "the gateway does not answer");
  }
  if (answer.ok) return answer;
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // Something else than the gateway has answered.
  }
  if (answer.status === 401 && key === token) signOut();
  throw new Problem(answer.status, problem.error ?? `HTTP ${answer.status}`, problem.known);
}

const get = async (path, query, signal) => (await ask("GET", path, { query, signal })).json();
const post = async (path, query, body) => (await ask("POST", path, { query, body })).json();

// Sign-in.

function keep(value) {
  token = value;
  tab.set("token", value);
}

// signIn keeps a token once the gateway has taken it.
export async function signIn(value) {
  await ask("GET", "/-/reload", { key: value });
  keep(value);
}

// trade trades the one-time code of `wxproxy ui` for the token.
export async function trade(code) {
  const answer = await ask("POST", "/api/v1/session", { key: null, body: { code } });
  keep((await answer.json()).token);
}

// What there is.

const forecastOf = (f) => (f ? { runsOut: f.runs_out ?? null, left: f.left ?? null } : null);

// figures of a counter; limit and left are null where there is no figure: that is not 0.
const figures = (r) => ({
  rule: r.rule, title: r.title ?? "", path: r.path ?? "", period: r.period, state: r.state, used: r.used,
  limit: r.limit > 0 ? r.limit : null, left: r.limit > 0 ? r.remaining : null, percent: r.limit > 0 ? (100 * r.used) / r.limit : null,
  reset: r.reset, forecast: forecastOf(r.forecast),
});

const tokenOf = (s) => (s ? { state: s.state, expires: s.expires ?? null, error: s.error ?? "", mend: s.mend ?? "", next: s.next_attempt ?? null } : null);

export async function accounts({ q, sort, cursor, limit }, signal) {
  const answer = await get("/api/v1/accounts", { q, sort, cursor, limit }, signal);
  zone(answer.accounts.find((a) => a.nearest)?.nearest.reset);
  return {
    total: answer.total,
    refusedBy: answer.refused_by === "fleet" ? "fleet" : "gateway",
    next: answer.next ?? "",
    list: answer.accounts.map((a) => ({
      app: a.app, appid: a.appid, profile: a.profile ?? "", learned: a.learned ?? false, used: a.used_today, refused: a.refused_today,
      latched: a.latched ?? [], token: tokenOf(a.token), error: a.error ?? "", nearest: a.nearest ? figures(a.nearest) : null,
    })),
  };
}

const rowOf = (r) => ({
  ...figures(r), key: `${r.rule} ${r.path ?? ""} ${r.caller ?? ""} ${r.period}`, counter: r.path ? `${r.rule}:${r.path}` : r.rule,
  category: r.category, quota: r.quota, caller: r.caller ?? "",
  grant: r.grant > 0 ? { calls: r.grant, until: r.grant_until, reason: r.grant_reason ?? "" } : null,
  reserve: r.reserve > 0 ? { calls: r.reserve, kept: r.kept ?? 0 } : null,
  wechat: r.wechat_used === undefined ? null : { used: r.wechat_used, limit: r.wechat_limit > 0 ? r.wechat_limit : null, drift: r.drift ?? null, at: r.read_at },
  startUnknown: r.start === "unknown", callers: r.callers ?? null,
});

export async function usage(app, { live } = {}, signal) {
  const answer = await get("/api/v1/usage", { app, live: live ? 1 : undefined }, signal);
  const one = answer.apps[0];
  zone(one.rows[0]?.reset);
  return {
    app: one.app, appid: one.appid, profile: one.profile, error: one.error ?? "", readingError: one.reading_error ?? "", saved: one.fuse_saved ?? {},
    rows: one.rows.map(rowOf),
  };
}

export async function status(app, signal) {
  await painted;
  const s = await get("/api/v1/status", { app }, signal);
  if (s.config?.timezone) zoneOf(s.config.timezone);
  return {
    version: s.version, revision: s.revision ?? "", go: s.go, id: s.gateway, started: s.started, uptime: s.uptime_seconds * 1000,
    store: s.store, gateways: s.gateways.map((g) => ({ id: g.id, seen: g.last_heartbeat ?? null, here: g.this ?? false })), gatewaysError: s.gateways_error ?? "",
    reload: s.reload, certificate: s.certificate_not_after ?? null, totals: s.totals, leftOut: s.left_out ?? 0, accountsError: s.accounts_error ?? "",
    config: s.config ?? {},
    accounts: s.accounts.map((a) => ({
      app: a.app, appid: a.appid, problem: a.problem ?? false, token: tokenOf(a.token), latched: a.latched ?? [], usedUp: a.used_up ?? [],
      clears: (a.clears ?? []).map((c) => ({ kind: c.kind, limit: c.limit, left: c.remaining, reset: c.reset })), error: a.error ?? "",
    })),
  };
}

export async function history({ app, from, to, step, by }, signal) {
  await painted;
  const answer = await get("/api/v1/history", { app, from, to, step, by }, signal);
  zone(answer.from);
  return {
    from: answer.from, to: answer.to,
    rows: answer.rows.map((r) => ({
      start: r.start, app: r.app, rule: r.rule ?? "", caller: r.caller ?? "", outcome: r.outcome ?? "", calls: r.calls, sent: r.sent, refused: r.refused, shadow: r.shadow,
    })),
  };
}

export async function refusals({ app, from, to }, signal) {
  const answer = await get("/api/v1/refusals", { app, from, to }, signal);
  zone(answer.from);
  return answer.rows.map((r) => ({ app: r.app, appid: r.appid, rule: r.rule, caller: r.caller, reason: r.reason, first: r.first, last: r.last, count: r.count }));
}

export const explain = (query, signal) => get("/api/v1/explain", query, signal).then((e) => ({ ...e, rows: (e.rows ?? []).map((r) => ({ ...figures(r), caller: r.caller ?? "" })) }));

export async function alerts(signal) {
  const a = await get("/api/v1/alerts", {}, signal);
  return {
    error: a.error ?? "",
    sinks: a.sinks.map((s) => ({ sink: s.sink, kind: s.type, state: s.state, error: s.error ?? "", taken: s.taken ?? null, tried: s.tried ?? null, next: s.next_attempt ?? null, waiting: s.waiting ?? 0 })),
    list: a.alerts.map((e) => ({
      time: e.time, event: e.event, state: e.state, app: e.app ?? "", appid: e.appid ?? "", rule: e.rule ?? "", title: e.title ?? "", path: e.path ?? "",
      used: e.used ?? 0, limit: e.limit ?? 0, forecast: e.forecast ?? null, wechat: e.wechat_used ?? 0, errcode: e.errcode ?? 0, ip: e.ip ?? "",
      caller: e.caller ?? "", gateway: e.gateway ?? "", reason: e.reason ?? "",
      sinks: e.sinks.map((r) => ({ sink: r.sink, result: r.result, error: r.error ?? "", time: r.time ?? null })),
    })),
  };
}

// What can be done.

const clearsOf = (row) => (row ? { left: row.remaining, limit: row.limit, reset: row.reset } : null);

export async function clearPlan(app, rule, signal) {
  const p = await get("/api/v1/clear", { app, rule }, signal);
  return { app: p.app, rule: p.rule ?? "", paths: p.paths ?? [], cost: p.cost, clears: clearsOf(p.clears), rows: p.rows.map(figures) };
}

export async function clear(app, rule) {
  const c = await post("/api/v1/clear", { app, rule });
  return { done: c.done, clears: clearsOf(c.clears), steps: c.calls.map((s) => ({ path: s.path ?? "", done: s.done, statement: s.statement })) };
}

// grant adds calls to those that are granted; null ends what is. The gateway refuses it when somebody else has changed
// the grant meanwhile.
export async function grant({ app, counter, calls, until, reason }) {
  const there = (await get("/api/v1/grant", { app, rule: counter })).grants[0];
  const sum = calls === null ? 0 : (there?.calls ?? 0) + calls;
  await post("/api/v1/grant", { app, rule: counter, calls: sum, until, reason, version: there?.version ?? 0 });
}

// testAlerts sends a message to every sink.
export const testAlerts = () => post("/api/v1/alerts/test").then((a) => a.results.map((r) => ({ sink: r.sink, kind: r.type, error: r.error ?? "" })));

export const reload = () => post("/-/reload");

// Tables and streams.

const tables = { accounts: "/api/v1/accounts", usage: "/api/v1/usage", history: "/api/v1/history", refusals: "/api/v1/refusals" };

// table is what is on the screen as CSV.
export async function table(name, query) {
  const answer = await ask("GET", tables[name], { query: { ...query, format: "csv" } });
  return answer.blob();
}

const callOf = (c) =>
  c.dropped !== undefined && c.time === undefined
    ? { dropped: c.dropped }
    : {
        time: c.time, app: c.app, rule: c.rule ?? "", caller: c.caller ?? "", method: c.method, path: c.path, decision: c.decision, reason: c.reason ?? "",
        status: c.status, errcode: c.errcode ?? 0, milliseconds: c.duration_ms ?? null, id: c.request_id ?? "", client: c.client_ip ?? "", used: c.used ?? null, quota: c.quota ?? null,
      };

// tail calls take with each batch of calls as they end, until signal aborts or the gateway ends it.
export async function tail(filter, take, signal) {
  const query = { app: filter.app, rule: filter.rule, caller: filter.caller, reason: filter.reason, refused: filter.refused ? 1 : undefined };
  const answer = await ask("GET", "/api/v1/tail", { query, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    const calls = lines.filter(Boolean).map((line) => callOf(JSON.parse(line)));
    if (calls.length > 0) take(calls);
  }
}
