// messages.js: the view of single messages: lists by state and filter, one message with its life, and what is done with them.

import { t, lang, number, time, ago } from "./words.js";

const $ = id => document.getElementById(id);
const STATES = ["live", "waiting", "delayed", "running", "archived", "cancelled", "dead"];
const FITS = { "run-now": ["live", "waiting", "delayed"], delay: ["live", "waiting", "delayed"], cancel: ["live", "waiting", "delayed", "running"], requeue: ["archived", "cancelled", "dead"] };

let page; // what page.js gives: h, keep, set, ask, withToken, confirmed, toast, open, state
const view = { queue: "", state: "live", list: [], before: null, chosen: new Set(), turn: 0, shown: null };

const path = rest => `api/queues/${encodeURIComponent(view.queue)}/${rest}`;

// The filter as its fields say it.
function filter() {
  const where = $("messages-where").value.trim(), reason = $("messages-reason").value.trim(), attempts = $("messages-attempts").value, age = $("messages-age").value;
  return { state: view.state, ...(where && { where: where.split(/\s+&\s+/) }), ...(reason && { reason }), ...(attempts && { attempts }),
    ...(age.startsWith("-") ? { newer: age.slice(1) } : age && { older: age }) };
}

function query(before) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(filter())) for (const one of [value].flat()) search.append(name, one);
  if (before) search.append("before", before);
  return path(`messages?${search}`);
}

// ---- the list ----

async function load(older) {
  if (!view.queue) return;
  const turn = ++view.turn, where = $("messages-where").value.trim(), ask = () => page.ask(query(older ? view.before : null));
  if (!older) { view.chosen.clear(); view.list = []; }
  const once = () => (where ? page.withToken(ask) : ask().catch(e => { if (e.code !== "database_unavailable") page.toast(t("error", { message: e.message })); }));
  let got = await once();
  // one answer looks at some thousand messages; what is searched may be further back
  for (let n = 0; n < 20 && got && turn === view.turn && !got.messages.length && got.before; n++) { view.before = got.before; older = true; got = await once(); }
  if (!got || turn !== view.turn) return;
  view.list = older ? [...view.list, ...got.messages] : got.messages;
  view.before = got.before;
  draw();
}

// The newest page again, in step with the page's rhythm; what was loaded beyond it stays as it is.
async function refresh() {
  if (!view.queue || $("message-dialog").open || view.list.length > 100 || $("messages-where").value.trim() && !page.state.token) return;
  const turn = view.turn, got = await page.ask(query(null));
  if (turn !== view.turn) return;
  view.list = got.messages;
  view.before = got.before;
  draw();
}

const capital = text => text[0].toUpperCase() + text.slice(1);
const badge = state => page.h("span", { class: `badge ${{ running: "good", delayed: "warn", dead: "bad", cancelled: "warn" }[state] ?? ""}` }, t(`message_${state}`));

function draw() {
  const shown = new Set(view.list.map(m => m.id)), { h } = page;
  for (const id of view.chosen) if (!shown.has(id)) view.chosen.delete(id); // only what is shown can be chosen
  page.keep($("message-table").tBodies[0], view.list.map(m => ({ ...m, queue: view.queue })), m => `${m.queue} ${view.state} ${m.id}`, m => h("tr", {},
    h("td", {}, h("input", { type: "checkbox", "aria-label": t("select_message", { id: m.id }), onchange: e => { view.chosen[e.target.checked ? "add" : "delete"](m.id); drawChosen(); } })),
    h("td", { class: "n", "data-name": t("id") }, String(m.id)), h("td", { "data-name": t("state") }, badge(m.state)),
    h("td", { "data-name": t("since") }, h("time", { datetime: m.at, title: time(m.at) }, ago(m.at))),
    h("td", { class: "n", "data-name": t("attempts") }, number(m.attempts)), h("td", { "data-name": t("next_due") }, m.state === "delayed" ? h("time", { datetime: m.due_at, title: time(m.due_at) }, ago(m.due_at)) : "–"),
    h("td", { class: "wide", "data-name": t("reason") }, m.reason ?? "–", m.cancelled_by ? h("small", {}, t("cancelled_by", { by: m.cancelled_by })) : null, m.group ? h("small", {}, `${t("group")}: ${m.group}`) : null),
    h("td", { class: "more" }, h("button", { type: "button", class: "quiet", "aria-label": `${t("show")}: ${m.id}`, onclick: () => show(m.id, m.state) }, t("show")))));
  document.querySelectorAll("#message-table tbody tr").forEach((row, i) => { row.querySelector("input").checked = view.chosen.has(view.list[i].id); });
  $("messages-more-bar").hidden = !view.before;
  $("messages-empty").hidden = view.list.length > 0;
  page.set($("messages-empty"), t(view.before ? "messages_further" : "no_messages"));
  $("message-table").hidden = view.list.length === 0;
  drawChosen();
}

function drawChosen() {
  const n = view.chosen.size, all = $("messages-all");
  for (const [action, states] of Object.entries(FITS)) {
    const button = $(`messages-${action}`);
    button.hidden = !states.includes(view.state);
    button.disabled = !view.list.length;
    page.set(button, n ? `${t(`do_${action}`)} (${number(n)})` : t(`do_${action}_all`));
  }
  all.checked = n > 0 && n === view.list.length;
  all.indeterminate = n > 0 && n < view.list.length;
}

function drawStates() {
  $("messages-state").replaceChildren(...STATES.map(s => page.h("button", { type: "button", "aria-pressed": String(s === view.state), onclick: () => { location.hash = `#messages/${encodeURIComponent(view.queue)}/${s}`; } }, capital(t(`message_${s}`)))));
}

function fillQueues() {
  const names = (page.state.queues ?? []).map(q => q.queue), select = $("messages-queue");
  if (names.join() !== [...select.options].map(o => o.value).join()) select.replaceChildren(...names.map(n => page.h("option", { value: n }, n)));
  if (!names.includes(view.queue)) view.queue = names[0] ?? "";
  select.value = view.queue;
}

// ---- one message ----

async function show(id, state) {
  const m = await page.withToken(() => page.ask(path(`messages/${id}?state=${state}`)));
  if (!m) return load();
  const { h } = page, place = ["archived", "cancelled", "dead"].includes(m.state) ? m.state : "live";
  view.shown = m;
  const facts = [["state", t(`message_${m.state}`)], ["attempts", number(m.attempts)], ["first_enqueued", time(m.enqueued_at)], ["next_due", m.due_at && time(m.due_at)], ["lease_until", m.lease_until && time(m.lease_until)],
    ["group", m.group], ["priority", m.priority ? number(m.priority) : null], ["class", m.class], ["original_id", m.original_id === m.id ? null : m.original_id], ["trace", m.trace_id],
    ["worker", m.workers?.map(w => [w.session, w.address].filter(Boolean).join(", ")).join("; ")], ["cancel_asked", m.cancel_asked && m.cancel_asked.by]].filter(([, value]) => value != null && value !== "");
  page.set($("message-title"), t("message_of", { id: m.id, queue: view.queue }));
  $("message-facts").replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, t(name)), h("dd", {}, String(value)))));
  $("message-life").replaceChildren(...m.life.map(l => h("li", {}, h("time", { datetime: l.at }, time(l.at)), " ", h("strong", {}, t(`life_${l.what}`)), [l.attempt && ` ${t("attempt_n", { n: l.attempt })}`, l.by && ` · ${l.by}`, l.why && ` · ${l.why}`].filter(Boolean).join(""))));
  page.set($("message-body"), m.body ?? "null");
  page.set($("message-headers"), JSON.stringify(m.headers, null, 2));
  $("message-headers").hidden = $("message-headers").previousElementSibling.hidden = m.headers == null;
  const template = (() => { try { return JSON.parse(m.body).template; } catch { return null; } })();
  $("message-mail").hidden = typeof template !== "string";
  $("message-mail").href = `#mails/${encodeURIComponent(template)}`;
  editing(false);
  $("message-edit").hidden = !["waiting", "delayed", "dead"].includes(m.state);
  for (const action of Object.keys(FITS)) page.set($(`message-${action}`), t(`do_${action}`));
  for (const action of Object.keys(FITS)) $(`message-${action}`).hidden = !FITS[action].includes(place === "live" ? m.state : place);
  if (!$("message-dialog").open) $("message-dialog").showModal();
  $("message-dialog").scrollTop = 0;
}

function editing(on) {
  $("message-body").hidden = on;
  $("message-new").hidden = $("message-save").hidden = !on;
  if (on) { $("message-new").value = view.shown.body; $("message-new").focus(); }
}

// ---- acting ----

// The answer of an action in one line.
function told(action, answer) {
  const parts = [t(`did_${action}`, { n: number(answer.changed.length) })];
  if (answer.asked.length) parts.push(t("did_ask", { n: number(answer.asked.length) }));
  if (answer.refused.length) parts.push(t("did_refuse", { n: number(answer.refused.length) }));
  page.toast(parts.join(", "));
}

// An action on the chosen ones, or, without any, on all that match: counted first, and refused when more match by then.
async function act(action, only) {
  const ids = only ? [only.id] : [...view.chosen], rows = only ? [only] : view.list.filter(m => view.chosen.has(m.id));
  const which = ids.length ? { ids, versions: Object.fromEntries(rows.map(m => [m.id, m.version])), filter: { state: only ? (FITS["requeue"].includes(only.state) ? only.state : "live") : view.state } } : { filter: filter(), all: true };
  const count = ids.length || (await page.withToken(() => page.ask(path(action), { ...which, seconds: 0, dry_run: true })))?.matched;
  if (count == null) return;
  const sure = await page.confirmed(t(`${action}_ask`, { n: number(count), queue: view.queue }), t(`${action}_text`), { yes: t(`do_${action}`), danger: action === "cancel", field: true, delay: action === "delay" });
  if (!sure) return;
  const answer = await page.withToken(() => page.ask(path(action), { ...which, ...(ids.length ? {} : { expected: count }), ...(sure.why && { why: sure.why }), ...(action === "delay" && { seconds: sure.seconds }) }));
  if (!answer) return;
  told(action, answer);
  if (only) $("message-dialog").close();
  await load();
}

async function save() {
  const m = view.shown, state = m.state === "dead" ? "dead" : "live";
  const answer = await page.withToken(() => page.ask(path("edit"), { ids: [m.id], version: m.version, body: $("message-new").value, filter: { state } }));
  if (!answer) return;
  told("edit", answer);
  await show(m.id, state);
}

// ---- the view ----

export const messages = {
  start(given) {
    page = given;
    $("messages-queue").addEventListener("change", () => { location.hash = `#messages/${encodeURIComponent($("messages-queue").value)}/${view.state}`; });
    for (const id of ["messages-where", "messages-reason", "messages-attempts", "messages-age"])
      $(id).addEventListener(id === "messages-age" || id === "messages-where" ? "change" : "input", () => { clearTimeout(view.timer); view.timer = setTimeout(() => load(), 250); });
    $("messages-more").addEventListener("click", () => load(true));
    $("messages-all").addEventListener("change", e => { view.chosen = new Set(e.target.checked ? view.list.map(m => m.id) : []); draw(); });
    for (const action of Object.keys(FITS)) {
      $(`messages-${action}`).addEventListener("click", () => act(action));
      $(`message-${action}`).addEventListener("click", () => act(action, view.shown));
    }
    $("message-edit").addEventListener("click", () => editing(true));
    $("message-save").addEventListener("click", save);
    $("message-mail").addEventListener("click", () => $("message-dialog").close());
  },
  // The address names a queue and a state, or neither.
  enter(queue, state) {
    if (queue) view.queue = queue;
    view.state = STATES.includes(state) ? state : "live";
    fillQueues();
    drawStates();
    load();
  },
  async look() { fillQueues(); await refresh(); },
  words() { if (page) { drawStates(); draw(); } },
};
