// schedules.js: the schedules of the status page: when each runs, its history, and what an operator does with it.

import { t, lang, duration, time, ago } from "./words.js";

const $ = id => document.getElementById(id);
const view = { shown: null, turn: 0 };
let page;

const path = (name, what = "") => `api/schedules/${encodeURIComponent(name)}${what}`;
const outcome = r => `${t(`run_${r.status}`)}${r.ms == null ? "" : `, ${duration(r.ms / 1000)}`}`;
const kind = r => (r.status === "ok" ? "good" : r.status === "skipped" ? "warn" : "bad");

// A time as a clock in that zone shows it.
function zoned(iso, zone) {
  try {
    return new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short", timeZone: zone }).format(new Date(iso));
  } catch {
    return time(iso);
  }
}

// ---- the list ----

async function look() {
  const { h } = page, { schedules } = await page.ask("api/schedules");
  const tick = r => h("span", { class: `tick ${kind(r)}`, title: `${time(r.started_at)}: ${outcome(r)}${r.error ? `. ${r.error}` : ""}` });
  page.keep($("schedule-table").tBodies[0], schedules, s => s.name, s => h("tr", {}, h("th", { scope: "row" }, h("span", { class: "name" }, s.name), s.enabled ? null : h("small", {}, t("disabled"))),
    h("td", { "data-name": t("when") }, h("code", {}, s.cron), h("small", {}, s.tz)), h("td", { "data-name": t("runner") }, s.runner, s.taken_over ? h("small", { class: "bad" }, t("taken_over")) : null),
    h("td", { "data-name": t("next_due") }, s.next_due && s.enabled ? h("time", { datetime: s.next_due, title: time(s.next_due) }, ago(s.next_due)) : "–"),
    h("td", { "data-name": t("last_run") }, s.runs[0] ? h("span", {}, h("time", { datetime: s.runs[0].started_at, title: time(s.runs[0].started_at) }, ago(s.runs[0].started_at)), `, ${t(`run_${s.runs[0].status}`)}`) : t("never"),
      s.runs[0]?.error ? h("small", { class: "bad" }, s.runs[0].error) : null),
    h("td", { "data-name": t("last_runs"), class: "ticks" }, ...(s.runs.length ? [...s.runs].reverse().map(tick) : ["–"])),
    h("td", { class: "more" }, h("button", { type: "button", class: "quiet", "aria-label": `${t("show")}: ${s.name}`, onclick: () => show(s.name) }, t("show")))));
  $("schedules-empty").hidden = schedules.length > 0;
  $("schedule-table").hidden = schedules.length === 0;
  if ($("schedule-dialog").open && view.shown) await refresh();
}

// ---- one schedule ----

// Brings the history and the buttons in step; what somebody is typing stays.
async function refresh() {
  const { h } = page, s = await page.ask(path(view.shown.name));
  view.shown = s;
  page.set($("schedule-title"), s.name);
  const facts = [["state", t(s.enabled ? "enabled" : "disabled")], ["runner", s.runner], ["next_due", s.next_due && s.enabled ? time(s.next_due) : "–"]];
  $("schedule-facts").replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, t(name)), h("dd", {}, value))));
  page.keep($("schedule-runs").tBodies[0], s.runs, r => `${r.started_at} ${r.status}`, r => h("tr", {}, h("td", { "data-name": t("started") }, time(r.started_at)),
    h("td", { "data-name": t("state") }, h("span", { class: `badge ${kind(r)}` }, t(`run_${r.status}`))), h("td", { class: "n", "data-name": t("took") }, r.ms == null ? "–" : duration(r.ms / 1000)),
    h("td", { class: "wide", "data-name": t("last_error") }, r.error ?? "–")));
  $("schedule-runs").hidden = s.runs.length === 0;
  $("schedule-never").hidden = s.runs.length > 0;
  $("schedule-pause").dataset.act = s.enabled ? "pause" : "resume";
  page.set($("schedule-pause"), t($("schedule-pause").dataset.act));
}

async function show(name) {
  view.shown = { name };
  await refresh();
  $("schedule-cron").value = view.shown.cron;
  $("schedule-zone").value = view.shown.tz;
  tell(view.shown.next, null);
  if (!$("schedule-dialog").open) $("schedule-dialog").showModal();
  $("schedule-dialog").scrollTop = 0;
}

// The next times of what stands in the fields, or what is wrong with it.
function tell(next, error) {
  const changed = $("schedule-cron").value.trim() !== view.shown.cron || $("schedule-zone").value.trim() !== view.shown.tz;
  $("schedule-next").replaceChildren(...next.map(at => page.h("li", {}, zoned(at, $("schedule-zone").value.trim()))));
  page.set($("schedule-error"), error ?? "");
  $("schedule-cron").setAttribute("aria-invalid", String(Boolean(error)));
  $("schedule-save").disabled = Boolean(error) || !changed;
}

// Asks what the text means while it is typed; an answer that comes late is dropped.
async function check() {
  const turn = ++view.turn;
  try {
    const answer = await page.ask(`api/cron/next?${new URLSearchParams({ cron: $("schedule-cron").value.trim(), zone: $("schedule-zone").value.trim() })}`);
    if (turn === view.turn) tell(answer.next, answer.error);
  } catch (e) {
    if (turn === view.turn) tell([], e.message);
  }
}

async function act(what, body, done) {
  const { name } = view.shown;
  if (!await page.withToken(() => page.ask(path(name, `/${what}`), body))) return;
  page.toast(t(done, { name }));
  if (what === "edit") await show(name);
  await look();
}

async function run() {
  const { name } = view.shown;
  if (await page.confirmed(t("schedule_run_ask", { name }), t("schedule_run_text"), { yes: t("do_run-now") })) await act("run", {}, "schedule_started");
}

export const schedules = {
  start(given) {
    page = given;
    for (const id of ["schedule-cron", "schedule-zone"]) $(id).addEventListener("input", () => { clearTimeout(view.timer); view.timer = setTimeout(check, 150); });
    $("schedule-run").addEventListener("click", run);
    $("schedule-pause").addEventListener("click", e => act(e.target.dataset.act, {}, e.target.dataset.act === "pause" ? "schedule_paused" : "schedule_resumed"));
    $("schedule-save").addEventListener("click", () => act("edit", { cron: $("schedule-cron").value.trim(), tz: $("schedule-zone").value.trim() }, "schedule_saved"));
  },
  look,
};
