// page.js: the status page: asks pgmqd how it does every few seconds, and shows it; sends what the operator wants done.

import { t, lang, setLang, number, duration, time, clock, ago } from "./words.js";
import { Chart, spark } from "./charts.js";
import { messages } from "./messages.js";
import { schedules } from "./schedules.js";

const $ = id => document.getElementById(id);
const STEP = 5, POINTS = 120, PACE = 2000;
const COUNTS = ["done", "retried", "failed"], TIMES = ["wait_p50_ms", "wait_p99_ms"];

const state = { token: sessionStorage.getItem("token") ?? "", status: null, queues: null, queuesAt: null, queuesError: null, silent: false, locked: false,
  statusAt: null, viewError: null, older: false, after: 0, history: {}, open: new Set(), rows: new Map(), letters: [], chosen: new Set(), view: "queues", span: "10m", long: null, longAt: 0 };

// ---- small helpers ----

// An element; a key that starts with "on" is a listener, a value of false or null is left out.
function h(tag, attrs = {}, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(attrs)) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else el.setAttribute(key, value === true ? "" : value);
  }
  el.append(...children.filter(c => c != null));
  return el;
}

// Replaces the children only when what they are made of has changed, so that the reader keeps focus and selection.
function refill(el, made, ...children) {
  const key = JSON.stringify([lang, made]);
  if (el.dataset.made === key) return;
  el.dataset.made = key;
  el.replaceChildren(...children.map(c => c()));
}

// Brings the children in step with a list. An item's element is kept as long as the item is, and drawn anew only when the
// item has changed: the focus stays where it is, and so does what somebody is about to click.
function keep(host, list, key, draw) {
  const have = host.kept ?? new Map(), next = new Map();
  for (const el of [...host.children]) if (!host.kept) el.remove();
  let at = host.firstElementChild;
  for (const item of list) {
    const id = key(item), made = JSON.stringify([lang, item]);
    let el = have.get(id);
    if (!el || el.dataset.made !== made) {
      const fresh = draw(item);
      fresh.dataset.made = made;
      if (el) { if (at === el) at = fresh; el.replaceWith(fresh); }
      el = fresh;
    }
    next.set(id, el);
    if (at === el) at = el.nextElementSibling; else host.insertBefore(el, at);
  }
  for (const [id, el] of have) if (!next.has(id)) el.remove();
  host.kept = next;
}

const set = (el, text) => { if (el.textContent !== text) el.textContent = text; };
const sum = list => list.reduce((a, b) => a + (b ?? 0), 0);

function toast(text) {
  set($("toast"), "");
  setTimeout(() => set($("toast"), text), 50);
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => set($("toast"), ""), 6000);
}

// ---- asking ----

class Refused extends Error {
  constructor(status, code, message) { super(message); Object.assign(this, { status, code }); }
}

async function ask(path, body, token = state.token) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { headers, method: body ? "POST" : "GET", body: body && JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(15000) });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, json.error?.code, json.error?.message ?? answer.statusText);
  return json;
}

// Does what needs the token; asks for it first where it is missing or wrong.
async function withToken(act) {
  if (!state.token && !await askToken()) return;
  try {
    return await act();
  } catch (e) {
    if (e.status === 401) { if (await askToken(t("token_wrong"))) return withToken(act); } else if (e.code === "no_token") await askToken(t("token_unset"));
    else if (e.code === "role") { if (await askToken(t("token_role", { role: t(`role_${state.status.role}`) }))) return withToken(act); }
    else toast(t("error", { message: e.message }));
  }
}

// ---- dialogs ----

function openDialog(dialog) {
  return new Promise(done => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => done(dialog.returnValue), { once: true });
    dialog.showModal();
  });
}

// Why a token is not the one of this pgmqd; "" when it is.
async function tokenProblem(token) {
  try {
    const status = await ask("api/status?after=999999999", undefined, token);
    return !status.token_set ? t("token_unset") : status.authorized ? "" : t("token_wrong");
  } catch (e) {
    return e.status === 401 ? t("token_wrong") : e.code === "no_token" ? t("token_unset") : t("unreachable");
  }
}

async function askToken(error = "") {
  for (;;) {
    $("token-input").value = "";
    set($("token-error"), error);
    $("token-forget").hidden = !state.token;
    $("token-save").value = "ok";
    const answer = await openDialog($("token-dialog")), given = $("token-input").value.trim();
    $("token-input").value = "";
    if (answer !== "forget" && !(answer === "ok" && given)) return false;
    if (answer === "ok" && (error = await tokenProblem(given))) continue;
    state.token = answer === "ok" ? given : "";
    if (state.token) sessionStorage.setItem("token", state.token); else sessionStorage.removeItem("token");
    words();
    look();
    return Boolean(state.token);
  }
}

// Asks whether to go on; resolves to null, or to { why, seconds }.
async function confirmed(title, text, { yes, danger = false, field = false, delay = false }) {
  set($("ask-title"), title);
  set($("ask-text"), text);
  set($("ask-yes"), yes);
  $("ask-yes").value = "ok";
  $("ask-yes").className = danger ? "main danger" : "main";
  $("ask-field").hidden = !field;
  $("ask-delay").hidden = !delay;
  $("ask-input").value = "";
  return await openDialog($("ask-dialog")) === "ok" ? { why: $("ask-input").value.trim(), seconds: Number($("ask-seconds").value) } : null;
}

// ---- the rhythm ----

// Takes the new points of the history over; gone and new queues are followed.
function remember(fresh) {
  const known = {};
  for (const [name, points] of Object.entries(fresh.queues)) {
    const old = fresh.last >= state.after ? state.history[name] : undefined;
    known[name] = {};
    for (const key of [...COUNTS, ...TIMES]) known[name][key] = [...(old?.[key] ?? []), ...points[key]].slice(-POINTS);
  }
  state.history = known;
  state.after = fresh.last;
}

async function look() {
  clearTimeout(look.timer);
  const turn = look.turn = (look.turn ?? 0) + 1, began = performance.now();
  try {
    const status = await ask(`api/status?after=${state.after}`);
    if (turn !== look.turn) return;
    if (status.history.last < state.after) { state.after = 0; state.history = {}; } // pgmqd was restarted
    state.status = status;
    state.statusAt = new Date();
    state.silent = state.locked = false;
    remember(status.history);
    try {
      state.queues = (await ask("api/queues")).queues;
      state.queuesAt = new Date();
      state.queuesError = null;
    } catch (e) {
      state.queuesError = e;
    }
    state.viewError = null;
    try {
      if (state.view === "failures") await lookFailures();
      if (state.view === "schedules") await schedules.look();
      if (state.view === "messages") await messages.look();
      if (state.view === "processes") await lookDispatchers();
      if (state.view === "queues") await lookLong();
    } catch (e) {
      state.viewError = e;
    }
  } catch (e) {
    if (turn !== look.turn) return;
    state.locked = e.status === 401 || e.code === "no_token";
    state.silent = !state.locked;
  }
  if (turn !== look.turn) return;
  draw();
  // counting the rows of long queues costs the database something: never more than a twentieth of the time
  const pace = Math.max(PACE, (performance.now() - began) * 20);
  if (!document.hidden) look.timer = setTimeout(look, Math.min(pace, 60000));
}

function draw() {
  drawNotes();
  if (state.status) {
    drawTiles();
    drawQueues();
    drawProcesses();
    words.token();
    document.querySelectorAll("main time[datetime]").forEach(el => set(el, ago(el.dateTime)));
    set($("version"), t("version", { version: state.status.version, uptime: duration(state.status.uptime_seconds) }));
  }
}

// ---- what is wrong ----

// One outage is one problem: with the database away, no process is reported for having lost it.
function problems() {
  const list = [];
  if (state.silent) return [{ bad: true, text: state.statusAt ? t("unreachable_since", { time: clock(state.statusAt) }) : t("unreachable") }];
  if (state.locked) return [{ text: t("needs_token"), token: true }];
  if (!state.status) return [];
  const away = [state.queuesError, state.viewError].find(e => e?.code === "database_unavailable");
  if (away) list.push({ bad: true, text: state.queuesAt ? t("db_down", { time: clock(state.queuesAt) }) : t("db_down_new") });
  for (const e of new Set([state.queuesError, state.viewError].filter(e => e && e.code !== "database_unavailable").map(e => e.message))) list.push({ bad: true, text: e });
  if (state.status.hearing === false && !away) list.push({ text: t("deaf") });
  const told = new Set();
  for (const p of state.status.processes) {
    if (p.retired || told.has(p.process)) continue;
    const name = `${t(`role_${p.role}`)} ${p.role === "worker" ? p.process : ""}`.trim(), why = p.last_error ? ` ${p.last_error}` : "";
    const word = p.state === "crash_loop" ? "crash" : p.state === "config_error" ? "config" : p.pid === 0 ? "process_down" : !p.up ? "process_silent"
      : ["worker", "listener"].includes(p.role) && !p.connected && p.state !== "starting" && p.state !== "draining" ? "process_unconnected" : p.claims_fail ? "claims_fail" : null;
    if (!word || p.role === "supervisor" || (away && word === "process_unconnected")) continue;
    told.add(p.process);
    list.push({ bad: true, text: t(word, { name, state: t(`state_${p.state}`) }) + why });
  }
  for (const q of state.queues ?? []) {
    if (q.problem) list.push({ bad: true, text: `${q.queue}: ${q.problem}` });
    else if (q.attached === false && q.worker) list.push({ text: t("not_attached", { queue: q.queue }) });
    if (!q.worker && q.oldest_due_seconds > 60) list.push({ text: t("not_served", { queue: q.queue, n: number(q.due) }) });
    if (q.paused || q.worker?.state === "paused") list.push({ bad: !q.paused, text: pauseText(q) });
  }
  return list;
}

// "email_queue: paused (maria): mail server moves"; without an operator it is an error that stopped the queue.
function pauseText(q) {
  const [, by, why] = /^by (.*?)(?:: ([^]*))?$/.exec(q.paused ?? "") ?? [];
  if (!by) return `${t("paused_note", { queue: q.queue })}${q.worker?.last_error ? `: ${q.worker.last_error}` : ""}`;
  return t(why ? "paused_why" : "paused_by", { queue: q.queue, by, why });
}

function drawNotes() {
  const list = problems(), pulse = $("pulse");
  set(pulse, !state.status && !list.length ? t("loading") : list.length ? t(state.silent ? "unreachable" : list.length === 1 ? "problem" : "problems", { n: list.length }) : t("all_well"));
  pulse.className = `pulse ${list.some(p => p.bad) ? "bad" : list.length ? "warn" : state.status ? "good" : ""}`;
  document.body.classList.toggle("old", state.silent);
  refill($("notes"), list, ...list.map(p => () => h("p", { class: `note ${p.bad ? "bad" : "warn"}` }, p.text,
    p.token ? h("button", { type: "button", class: "main", onclick: () => askToken() }, t("give_token")) : null)));
  document.title = list.length && !state.locked ? `(${list.length}) pgmqd` : "pgmqd";
}

// ---- queues ----

const minute = values => sum((values ?? []).slice(-60 / STEP));
const lately = values => (values ?? []).slice(-60 / STEP).filter(v => v != null);
const median = list => list.length ? [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] : null;
const worst = list => list.length ? Math.max(...list) : null;
const span = (p50, p99) => p50 == null ? "–" : `${duration(p50 / 1000)} / ${duration(p99 / 1000)}`;

// One value of each step over all queues.
function together(key, combine) {
  const lists = Object.values(state.history).map(q => q[key]), n = Math.max(0, ...lists.map(l => l.length));
  return Array.from({ length: n }, (_, i) => {
    const at = lists.map(l => l[i - (n - l.length)]).filter(v => v != null);
    return at.length ? combine(at) : null;
  });
}

const SPANS = ["10m", "1h", "24h", "30d"];

function drawSpan() {
  $("span").replaceChildren(...SPANS.map(s => h("button", { type: "button", "aria-pressed": String(s === state.span), onclick: () => { state.span = s; state.longAt = 0; drawSpan(); look(); } }, t(`span_${s}`))));
}

// The queue and the dispatcher whose history is shown; "": all of them. Only the long spans, which the database keeps, can be told apart so.
async function fillSpanOf() {
  const { dispatchers } = await ask("api/dispatchers");
  for (const [id, word, names] of [["span-queue", "all_queues", (state.queues ?? []).map(q => q.queue)], ["span-dispatcher", "all_dispatchers", dispatchers.map(d => d.name)]]) {
    const now = $(id).value, options = ["", ...names];
    if ($(id).options[0]?.text !== t(word) || [...$(id).options].map(o => o.value).join() !== options.join())
      $(id).replaceChildren(...options.map(n => h("option", { value: n }, n || t(word))));
    $(id).value = options.includes(now) ? now : "";
  }
}

// The long spans have a point a minute at most, so they need not be asked for more often.
async function lookLong() {
  $("span-of").hidden = state.span === "10m";
  if (state.span === "10m") return;
  await fillSpanOf();
  const of = { span: state.span, ...($("span-queue").value && { queue: $("span-queue").value }), ...($("span-dispatcher").value && { dispatcher: $("span-dispatcher").value }) };
  const path = `api/history?${new URLSearchParams(of)}`;
  if (performance.now() - (state.longAt || -Infinity) < 30000 && state.longPath === path) return;
  state.long = await ask(path);
  Object.assign(state, { longAt: performance.now(), longPath: path });
}

async function lookDispatchers() {
  const { dispatchers } = await ask("api/dispatchers");
  keep($("dispatcher-table").tBodies[0], dispatchers, d => d.name, d => h("tr", {}, h("th", { scope: "row" }, h("span", { class: "name" }, d.name)),
    h("td", { "data-name": t("state") }, h("span", { class: `badge ${d.alive ? "good" : ""}` }, t(d.alive ? "alive" : "gone"))), h("td", { "data-name": t("version_word") }, d.version),
    h("td", { "data-name": t("started") }, h("time", { datetime: d.started_at, title: time(d.started_at) }, ago(d.started_at))), h("td", { "data-name": t("seen") }, h("time", { datetime: d.seen_at, title: time(d.seen_at) }, ago(d.seen_at))),
    h("td", { "data-name": t("queues"), class: "wide" }, d.queues.join(", "))));
}

function drawTiles() {
  const q = state.queues ?? [], known = state.queues != null, names = Object.values(state.history);
  const oldest = worst(q.map(r => r.oldest_due_seconds).filter(v => v != null)), delayed = sum(q.map(r => r.delayed)), dead = sum(q.map(r => r.dead_letters));
  const tiles = [
    ["tile_rate", number(sum(names.map(n => minute(n.done)))), t("sub_minute")],
    ["tile_latency", span(median(names.flatMap(n => lately(n.wait_p50_ms))), worst(names.flatMap(n => lately(n.wait_p99_ms)))), t("sub_minute")],
    ["tile_waiting", known ? number(sum(q.map(r => r.waiting))) : "–", delayed ? t("sub_delayed", { n: number(delayed) }) : ""],
    ["tile_oldest", known ? duration(oldest) : "–", known && oldest == null ? t("sub_now") : ""],
    ["tile_flight", known ? number(sum(q.map(r => r.in_flight))) : "–", ""],
    ["tile_dead", known ? number(dead) : "–", known && !dead ? t("sub_none") : "", dead > 0 ? "bad" : ""],
  ];
  refill($("tiles"), tiles, ...tiles.map(([word, value, sub, kind]) => () => h("div", { class: `tile ${kind ?? ""}` }, h("dt", {}, t(word)), h("dd", {}, value),
    h("dd", { class: "sub" }, word === "tile_dead" && dead ? h("a", { href: "#failures" }, t("sub_failures")) : sub))));
  const long = state.span === "10m" ? null : state.long, values = (key, how) => (state.span === "10m" ? together(key, how) : long?.[key] ?? []);
  for (const c of Object.values(charts)) Object.assign(c, long ? { step: long.step_seconds, points: long.done.length } : { step: STEP, points: POINTS });
  charts.settled.draw(COUNTS.map(key => ({ name: t(key), kind: key, area: key === "done", values: long ? long[key].map(n => n * 60 / long.step_seconds) : values(key, l => sum(l) * 60 / STEP) })));
  charts.latency.draw([["p50", "wait_p50_ms", median], ["p99", "wait_p99_ms", worst]].map(([kind, key, how]) => ({ name: t(kind), kind, values: values(key, how) })));
}

// While pgmqd is away every state is unknown.
function badge(known) {
  const name = state.silent ? "unknown" : known, kind = { ready: "good", paused: "warn", crash_loop: "bad", config_error: "bad", stopped: "bad", silent: "bad", claims_fail: "bad", restarting: "warn", connecting: "warn", draining: "warn" }[name] ?? "";
  return h("span", { class: `badge ${kind}` }, t(`state_${name}`));
}

// The row of a queue, made once and then kept up to date.
function queueRow(name) {
  const cell = (word, attrs = {}) => h("td", { "data-name": t(word), ...attrs });
  const id = `details-${state.rows.size}`, row = { state: cell("state"), spark: cell("last_minutes", { class: "wide" }), rate: cell("per_minute", { class: "n" }), waiting: cell("waiting", { class: "n" }),
    flight: cell("in_flight", { class: "n" }), oldest: cell("oldest", { class: "n" }), latency: cell("latency", { class: "n" }), dead: cell("dead", { class: "n" }) };
  row.plugin = h("small");
  row.button = h("button", { type: "button", class: "quiet icon", "aria-controls": id, onclick: () => { state.open[state.open.has(name) ? "delete" : "add"](name); drawQueues(); } });
  row.details = h("td", { colspan: 10, id });
  row.more = h("tr", { class: "details", hidden: true }, row.details);
  row.body = h("tbody", { "data-queue": name }, h("tr", {}, h("th", { scope: "row" }, h("span", { class: "name" }, name), row.plugin),
    row.state, row.spark, row.rate, row.waiting, row.flight, row.oldest, row.latency, row.dead, h("td", { class: "more" }, row.button)), row.more);
  return row;
}

function drawQueue(q) {
  let row = state.rows.get(q.queue);
  if (!row) state.rows.set(q.queue, row = queueRow(q.queue));
  const past = state.history[q.queue] ?? {}, open = state.open.has(q.queue), w = q.worker;
  set(row.plugin, w ? w.plugin : "");
  refill(row.state, [w?.state ?? "none", state.silent], () => badge(w?.state ?? "none"));
  refill(row.spark, past.done ?? [], () => spark(past.done ?? [], "done", POINTS));
  set(row.rate, w ? number(minute(past.done)) : "–");
  set(row.waiting, q.waiting == null ? "–" : q.delayed ? `${number(q.due)} + ${number(q.delayed)}` : number(q.due));
  row.waiting.title = q.delayed ? t("sub_delayed", { n: number(q.delayed) }) : "";
  set(row.flight, w ? number(q.in_flight) : "–");
  set(row.oldest, duration(q.oldest_due_seconds));
  set(row.latency, span(median(lately(past.wait_p50_ms)), worst(lately(past.wait_p99_ms))));
  refill(row.dead, q.dead_letters, () => q.dead_letters ? h("a", { href: `#failures/${encodeURIComponent(q.queue)}`, class: "bad" }, number(q.dead_letters)) : document.createTextNode(number(q.dead_letters)));
  row.button.setAttribute("aria-expanded", open);
  row.button.setAttribute("aria-label", `${t("details")}: ${q.queue}`);
  row.more.hidden = !open;
  if (open) drawDetails(row, q, past);
  return row.body;
}

// The word for a number that a plugin keeps, or its name where there is no word.
const own = n => (t(n.name) === n.name ? `${n.name} (${n.value})` : t(n.name, { value: n.value }));

function drawDetails(row, q, past) {
  const w = q.worker, facts = [[t("next_due"), ago(q.next_due)]];
  for (const by of ["rate", "key", "place", "pause"]) if (q.kept_back?.[by]) facts.push([t(`kept_by_${by}`), number(q.kept_back[by])]);
  for (const k of q.keys) facts.push([t("key_said", { key: k.key }), [k.paused_by && t("key_paused", { by: k.paused_by }), k.reason, k.held_until && t("key_held", { at: time(k.held_until) }),
    k.weight !== 1 && t("key_weight", { n: k.weight }), k.due && t("key_waiting", { n: number(k.due) })].filter(Boolean).join(", ")]);
  if (w) facts.push([t("plugin"), w.plugin], [t("processes"), number(w.processes)], [t("restarts"), number(w.restarts)], [t("done"), number(w.settled.done)], [t("retried"), number(w.settled.retried)],
    [t("failed"), number(w.settled.failed)], [t("released"), number(w.settled.released)], [t("lease_lost"), number(w.settled.lease_lost)],
    ...(w.numbers ?? []).map(n => [own(n), n.name === "email_provider_circuit" ? t(`circuit_${n.number}`) : number(n.number)]));
  if (!row.details.firstChild || row.lang !== lang) {
    row.lang = lang;
    row.facts = h("dl", { class: "facts" });
    row.error = h("p", { class: "error" });
    const settled = h("div", { class: "chart" }), latency = h("div", { class: "chart" });
    row.pause = h("button", { type: "button", class: "acts", onclick: () => pause(q.queue, row.pause.dataset.act) });
    row.details.replaceChildren(h("div", { class: "charts" }, h("figure", {}, h("figcaption", {}, t("settled_chart")), settled), h("figure", {}, h("figcaption", {}, t("latency_chart")), latency)), row.facts, row.error,
      h("div", { class: "buttons start" }, row.pause, h("a", { class: "button", href: `#messages/${encodeURIComponent(q.queue)}` }, t("messages")), h("a", { class: "button", href: `#failures/${encodeURIComponent(q.queue)}` }, t("show_dead"))));
    row.charts = [new Chart(settled, { step: STEP, points: POINTS }), new Chart(latency, { step: STEP, points: POINTS, log: true, format: v => duration(v / 1000) })];
  }
  refill(row.facts, facts, ...facts.map(([name, value]) => () => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  set(row.error, w?.last_error && !q.paused ? `${t("last_error")}: ${w.last_error}` : "");
  row.pause.dataset.act = q.paused || w?.state === "paused" ? "resume" : "pause";
  set(row.pause, t(row.pause.dataset.act));
  row.charts[0].draw(COUNTS.map(key => ({ name: t(key), kind: key, area: key === "done", values: (past[key] ?? []).map(v => v * 60 / STEP) })));
  row.charts[1].draw([["p50", "wait_p50_ms"], ["p99", "wait_p99_ms"]].map(([kind, key]) => ({ name: t(kind), kind, values: past[key] ?? [] })));
}

const stateOf = q => q.worker?.state ?? "none";
const SORTS = { queue: null, waiting: q => q.due ?? 0, oldest: q => q.oldest_due_seconds ?? -1, dead: q => q.dead_letters ?? 0, per_minute: q => minute(state.history[q.queue]?.done) };

// Offers values in a select; what was chosen stays.
function offer(select, options) {
  const now = select.value, made = JSON.stringify(options);
  if (select.dataset.made === made) return;
  select.dataset.made = made;
  select.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
  if (options.some(([value]) => value === now)) select.value = now;
}

// The queues that the filters leave, sorted; those that are equal stay in the order of their names.
function queuesShown() {
  offer($("filter-state"), [["", t("any_state")], ...[...new Set(state.queues.map(stateOf))].sort().map(s => [s, t(`state_${s}`)])]);
  offer($("sort"), Object.keys(SORTS).map(key => [key, t("sort_by", { name: t(key) })]));
  const wanted = $("filter").value.toLowerCase(), is = $("filter-state").value, by = SORTS[$("sort").value];
  const shown = state.queues.filter(q => q.queue.toLowerCase().includes(wanted) && (!is || stateOf(q) === is));
  return by ? shown.sort((a, b) => by(b) - by(a)) : shown;
}

function drawQueues() {
  if (!state.queues) { set($("queues-empty"), t("loading")); $("queues-empty").hidden = Boolean(state.queuesError); return; }
  const shown = queuesShown();
  const bodies = shown.map(drawQueue), table = $("queue-table"), have = [...table.tBodies];
  if (bodies.length !== have.length || bodies.some((b, i) => b !== have[i])) { have.forEach(b => b.remove()); table.append(...bodies); }
  $("filter-bar").hidden = state.queues.length < 8;
  table.classList.toggle("dense", state.queues.length > 15);
  $("queues-empty").hidden = shown.length > 0;
  table.hidden = shown.length === 0;
  set($("queues-empty"), t(state.queues.length ? "no_match" : "no_queues"));
}

async function pause(queue, act) {
  const sure = act === "resume" ? { why: "" } : await confirmed(t("pause_title", { queue }), t("pause_text"), { yes: t("pause"), field: true });
  if (!sure) return;
  if (await withToken(() => ask(`api/queues/${encodeURIComponent(queue)}/${act}`, { reason: sure.why }))) toast(t(act === "pause" ? "paused_ok" : "resumed_ok", { queue }));
  look();
}

// ---- failures and dead letters ----

async function lookFailures() {
  const { groups } = await ask("api/failures");
  groups.sort((a, b) => b.count - a.count);
  keep($("groups"), groups.length ? groups : [null], g => g && JSON.stringify([g.queue, g.class, g.reason]), g => (g ? groupCard(g) : h("p", { class: "card empty good" }, t("no_failures"))));
  $("letters").hidden = !state.queues?.length;
  fillQueues();
  await refreshLetters();
}

// The longest piece of a group's reason that all its reasons share.
const fragment = reason => reason.split("…").map(s => s.trim()).sort((a, b) => b.length - a.length)[0] ?? "";

// The word for a class of failures, or its name where it is a plugin's own.
const className = c => (c == null ? "–" : t(`class_${c}`) === `class_${c}` ? c : t(`class_${c}`));

function groupCard(g) {
  return h("article", { class: "card group" }, h("p", { class: "count", "aria-hidden": "true" }, number(g.count)), h("div", { class: "grow" },
    h("h2", {}, g.reason || g.class || "–"), h("p", { class: "meta" }, h("strong", {}, g.queue), ` · ${className(g.class)} · × ${number(g.count)} · `,
      h("time", { datetime: g.last, title: time(g.last) }, ago(g.last)), g.plugin ? ` · ${g.plugin}` : "")),
    h("button", { type: "button", onclick: () => showLetters(g.queue, fragment(g.reason), true) }, t("show_letters")));
}

function showLetters(queue, reason, focus) {
  fillQueues();
  $("letters-queue").value = queue;
  $("letters-reason").value = reason;
  loadLetters();
  if (focus) { $("letters").scrollIntoView({ block: "start" }); $("letters-reason").focus({ preventScroll: true }); }
}

function fillQueues() {
  const names = (state.queues ?? []).filter(q => q.dead_letters != null).map(q => q.queue), select = $("letters-queue"), now = select.value;
  if (names.join() === [...select.options].map(o => o.value).join()) return;
  select.replaceChildren(...names.map(n => h("option", { value: n }, n)));
  select.value = names.includes(now) ? now : (state.queues ?? []).find(q => q.dead_letters)?.queue ?? names[0] ?? "";
}

const letterPage = before => {
  const queue = $("letters-queue").value, reason = $("letters-reason").value.trim();
  return ask(`api/queues/${encodeURIComponent(queue)}/dead-letters?${new URLSearchParams({ ...(reason && { reason }), ...(before && { before }) })}`);
};

async function loadLetters(before) {
  const queue = $("letters-queue").value;
  if (!queue) return;
  const turn = loadLetters.turn = (loadLetters.turn ?? 0) + 1;
  if (!before) state.chosen.clear();
  try {
    const page = await letterPage(before);
    if (turn !== loadLetters.turn) return;
    state.letters = before ? [...state.letters, ...page.letters] : page.letters;
    state.older = page.more;
    set($("letters-title"), t("letters_of", { queue }));
    drawLetters();
  } catch (e) {
    if (e.code !== "database_unavailable") toast(t("error", { message: e.message }));
  }
}

// Brings what is shown in step with the newest page: letters that were deleted or requeued elsewhere disappear.
async function refreshLetters() {
  const turn = loadLetters.turn;
  if (!$("letters-queue").value || !turn) return;
  const page = await letterPage();
  if (turn !== loadLetters.turn) return;
  const last = page.more ? page.letters.at(-1).id : 0;
  state.letters = [...page.letters, ...state.letters.filter(l => l.id < last)];
  if (!page.more) state.older = false;
  drawLetters();
}

function drawLetters() {
  const queue = $("letters-queue").value, shown = new Set(state.letters.map(l => l.id));
  for (const id of state.chosen) if (!shown.has(id)) state.chosen.delete(id); // only what is shown can be chosen
  keep($("letter-table").tBodies[0], state.letters.map(l => ({ ...l, queue })), l => `${l.queue} ${l.id}`, l => h("tr", {},
    h("td", {}, h("input", { type: "checkbox", "aria-label": t("select_one", { id: l.id }), onchange: e => { state.chosen[e.target.checked ? "add" : "delete"](l.id); drawChosen(); } })),
    h("td", { class: "n", "data-name": t("id") }, String(l.id)), h("td", { "data-name": t("died") }, h("time", { datetime: l.died_at, title: time(l.died_at) }, ago(l.died_at))),
    h("td", { "data-name": t("class") }, className(l.class)), h("td", { class: "n", "data-name": t("attempts") }, number(l.attempts)), h("td", { class: "wide", "data-name": t("reason") }, l.reason ?? "–"),
    h("td", { class: "more" }, h("button", { type: "button", class: "quiet", "aria-label": `${t("body")}: ${l.id}`, onclick: () => showBody(queue, l.id) }, t("body")))));
  document.querySelectorAll("#letter-table tbody tr").forEach((row, i) => { row.querySelector("input").checked = state.chosen.has(state.letters[i].id); });
  $("letters-more-bar").hidden = !state.older;
  $("letters-empty").hidden = state.letters.length > 0;
  $("letter-table").hidden = state.letters.length === 0;
  drawChosen();
}

function drawChosen() {
  const n = state.chosen.size, all = $("letters-all");
  $("redrive").disabled = $("purge").disabled = n === 0;
  set($("redrive"), t("redrive") + (n ? ` (${number(n)})` : ""));
  set($("purge"), t("purge") + (n ? ` (${number(n)})` : ""));
  all.checked = n > 0 && n === state.letters.length;
  all.indeterminate = n > 0 && n < state.letters.length;
}

async function act(word, done, danger) {
  const queue = $("letters-queue").value, ids = [...state.chosen], n = number(ids.length);
  if (!await confirmed(t(ids.length === 1 ? `${word}_title_1` : `${word}_title`, { n, queue }), t(`${word}_text`), { yes: t(word), danger })) return;
  const answer = await withToken(() => ask(`api/queues/${encodeURIComponent(queue)}/${word}`, { ids }));
  if (!answer) return;
  toast(t(done, { n: number(answer.purged ?? answer.redriven.length) }));
  await loadLetters();
  look();
}

async function showBody(queue, id) {
  const l = await withToken(() => ask(`api/queues/${encodeURIComponent(queue)}/dead-letters/${id}`));
  if (!l) return;
  const facts = [["reason", l.reason], ["class", className(l.class)], ["attempts", number(l.attempts)], ["died", time(l.died_at)], ["first_enqueued", time(l.first_enqueued_at)], ["original_id", l.original_id ?? "–"],
    ["redrives", number(l.redrives)], ["plugin", [l.plugin, l.plugin_version].filter(Boolean).join(" ") || "–"]];
  set($("body-title"), t("body_of", { id, queue }));
  $("body-facts").replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, t(name)), h("dd", {}, String(value ?? "–")))));
  set($("body-text"), l.body ?? "null");
  set($("body-headers"), JSON.stringify(l.headers, null, 2));
  $("body-dialog").showModal();
  $("body-dialog").scrollTop = 0;
}

// ---- processes ----

function drawProcesses() {
  const list = state.status.processes.filter(p => p.role !== "supervisor" || p.pid);
  keep($("process-table").tBodies[0], list.map(p => ({ ...p, uptime_seconds: Math.floor(p.uptime_seconds / 10) * 10, silent: state.silent })), p => `${p.role} ${p.process} ${p.queue} ${p.pid}`, p => h("tr", {},
    h("th", { scope: "row" }, h("span", { class: "name" }, p.role === "worker" ? p.queue ?? p.process : t(`role_${p.role}`)), h("small", {}, p.role === "worker" ? p.process === p.queue ? t("role_worker") : p.process : "")),
    h("td", { "data-name": t("plugin") }, p.plugin ?? "–", p.plugin_version ? h("small", {}, p.plugin_version) : null),
    h("td", { "data-name": t("state") }, badge(p.pid && !p.up ? "silent" : p.retired ? "draining" : p.claims_fail ? "claims_fail" : p.state), p.last_error ? h("small", { class: "bad" }, p.last_error) : null),
    h("td", { class: "n", "data-name": t("pid") }, p.pid ? String(p.pid) : "–"), h("td", { class: "n", "data-name": t("uptime") }, p.pid ? duration(p.uptime_seconds) : "–"),
    h("td", { class: "n", "data-name": t("restarts") }, number(p.restarts)), h("td", { class: "n", "data-name": t("stall") }, p.role === "worker" ? duration(p.longest_callback_ms / 1000) : "–")));
}

// ---- mails ----

const mail = { list: null, lang: lang, scheme: "light" };

async function lookMails(wanted) {
  try {
    mail.list = (await ask("api/templates")).templates;
  } catch (e) {
    set($("mail-subject"), e.message);
    return;
  }
  const select = $("mail-name"), now = wanted ?? select.value;
  select.replaceChildren(...mail.list.map(m => h("option", { value: m.name }, m.name)));
  if (mail.list.some(m => m.name === now)) select.value = now;
  drawMail();
}

function choice(host, options, now, pick) {
  host.replaceChildren(...options.map(([value, text]) => h("button", { type: "button", "aria-pressed": String(value === now), onclick: () => { pick(value); drawMail(); host.querySelector("[aria-pressed=true]")?.focus(); } }, text)));
}

async function drawMail() {
  const chosen = mail.list?.find(m => m.name === $("mail-name").value);
  if (!chosen) { set($("mail-subject"), mail.list ? t("no_templates") : ""); return; }
  if (!chosen.langs.includes(mail.lang)) mail.lang = chosen.langs[0];
  const path = `api/templates/${encodeURIComponent(chosen.name)}/${encodeURIComponent(mail.lang)}`;
  choice($("mail-lang"), chosen.langs.map(l => [l, new Intl.DisplayNames(lang, { type: "language" }).of(l)]), mail.lang, v => { mail.lang = v; });
  choice($("mail-scheme"), [["light", t("light")], ["dark", t("dark")]], mail.scheme, v => { mail.scheme = v; });
  for (const [id, word] of [["mail-wide", "desktop"], ["mail-narrow", "phone"]]) {
    const url = `${path}?scheme=${mail.scheme}`;
    if ($(id).getAttribute("src") !== url) $(id).src = url;
    $(id).title = `${chosen.name}, ${t(word)}`;
  }
  try {
    const [subject, text] = await Promise.all(["subject", "txt"].map(part => fetch(`${path}?part=${part}`).then(r => r.text())));
    set($("mail-subject"), `${t("subject")}: ${subject.trim()}`);
    set($("mail-text"), text);
  } catch (e) {
    set($("mail-subject"), t("unreachable"));
  }
}

// ---- the frame: words, theme, views ----

// Whether there is a token, and whether it is the right one.
words.token = () => {
  const { authorized, role, name, token_set } = state.status ?? {}, named = state.token && authorized && name !== "HTTP";
  set($("token"), named ? `${name} ✓` : t(!state.token ? "token" : authorized === false ? "token_bad" : "token_on"));
  document.body.dataset.role = role ?? "";
  set($("rights"), !state.status || role === "act" ? "" : t(!token_set ? "rights_unset" : authorized ? `rights_${role}` : "rights_guest"));
};

const themes = ["auto", "light", "dark"];
let theme = themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto";

function words() {
  document.documentElement.lang = lang;
  document.documentElement.dataset.theme = theme;
  document.querySelectorAll("[data-word]").forEach(el => set(el, t(el.dataset.word)));
  document.querySelectorAll("[data-hint]").forEach(el => { el.placeholder = t(el.dataset.hint); });
  document.querySelectorAll("[data-label]").forEach(el => el.setAttribute("aria-label", t(el.dataset.label)));
  words.token();
  drawSpan();
  set($("theme"), { auto: "◐", light: "☀", dark: "☾" }[theme]);
  $("theme").title = t(`theme_${theme}`);
  $("theme").setAttribute("aria-label", t(`theme_${theme}`));
  set($("lang"), lang === "ru" ? "EN" : "RU");
  $("lang").title = lang === "ru" ? "English" : "Русский";
  $("lang").setAttribute("aria-label", `${$("lang").textContent}: ${$("lang").title}`); // a label has the text in it that is seen
  $("lang").lang = lang === "ru" ? "en" : "ru";
}

function show() {
  const [view, queue, part] = location.hash.slice(1).split("/").map(decodeURIComponent), known = ["queues", "messages", "failures", "schedules", "processes", "mails"];
  state.view = known.includes(view) ? view : "queues";
  for (const name of known) $(name).hidden = name !== state.view;
  document.querySelectorAll("#tabs a").forEach(a => a.toggleAttribute("aria-current", a.getAttribute("href") === `#${state.view}`));
  document.querySelectorAll("#tabs a[aria-current]").forEach(a => { a.setAttribute("aria-current", "page"); a.scrollIntoView({ block: "nearest", inline: "center" }); });
  if (state.view === "mails") lookMails(queue);
  look().then(() => { if (state.view === "messages") messages.enter(queue, part); if (state.view === "failures") { fillQueues(); queue ? showLetters(queue, "", false) : loadLetters(); } });
}

const charts = { settled: new Chart($("chart-settled"), { step: STEP, points: POINTS }),
  latency: new Chart($("chart-latency"), { step: STEP, points: POINTS, log: true, format: v => duration(v / 1000) }) };

$("lang").addEventListener("click", () => {
  setLang(lang === "ru" ? "en" : "ru");
  state.rows.clear();
  [...$("queue-table").tBodies].forEach(b => b.remove());
  words();
  mail.lang = lang;
  if (state.view === "mails") drawMail();
  if (state.view === "failures") drawLetters();
  messages.words();
  look();
});
$("theme").addEventListener("click", () => { theme = themes[(themes.indexOf(theme) + 1) % themes.length]; localStorage.setItem("theme", theme); words(); });
$("token").addEventListener("click", () => askToken());
$("token-forget").addEventListener("click", () => $("token-dialog").close("forget"));
document.querySelectorAll("[data-close]").forEach(b => b.addEventListener("click", () => b.closest("dialog").close("")));
for (const id of ["filter", "filter-state", "sort"]) $(id).addEventListener("input", drawQueues);
for (const id of ["span-queue", "span-dispatcher"]) $(id).addEventListener("change", () => look());
$("letters-queue").addEventListener("change", () => loadLetters());
$("letters-reason").addEventListener("input", () => { clearTimeout(loadLetters.timer); loadLetters.timer = setTimeout(() => loadLetters(), 250); });
$("letters-more").addEventListener("click", () => loadLetters(state.letters.at(-1)?.id));
$("letters-all").addEventListener("change", e => {
  state.chosen = new Set(e.target.checked ? state.letters.map(l => l.id) : []);
  drawLetters();
});
$("redrive").addEventListener("click", () => act("redrive", "redriven", false));
$("purge").addEventListener("click", () => act("purge", "purged", true));
$("mail-name").addEventListener("change", drawMail);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
addEventListener("hashchange", () => { show(); $("main").focus({ preventScroll: true }); scrollTo(0, 0); });

const page = { h, keep, set, ask, withToken, confirmed, toast, state };
messages.start(page);
schedules.start(page);
words();
show();
