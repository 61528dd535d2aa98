// charts.js: small charts of the last minutes to days, drawn as SVG.

import { t, number, duration } from "./words.js";

const NS = "http://www.w3.org/2000/svg";

function svg(tag, attrs, ...children) {
  const el = document.createElementNS(NS, tag);
  for (const key in attrs) el.setAttribute(key, attrs[key]);
  el.append(...children);
  return el;
}

// A round number not below n: 1, 2, 5, 10, 20 ...
function ceiling(n) {
  if (!(n > 0)) return 1;
  const p = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map(f => f * p).find(f => f >= n * 0.999);
}

// The points of a line as a path; null is a gap, and a point alone becomes a short dash.
function path(values, x, y) {
  let d = "", pen = false;
  values.forEach((v, i) => {
    if (v == null) { pen = false; return; }
    if (!pen && values[i + 1] == null) d += `M${x(i) - 1.5} ${y(v)}h3`;
    else d += `${pen ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
    pen = true;
  });
  return d;
}

// A line without axes, for a row of a table; what is known of `points` values stands at the right end.
export function spark(values, kind, points) {
  const w = 120, h = 28, top = Math.max(...values, 1), x = i => (i + points - values.length) * w / (points - 1), y = v => h - 2 - v / top * (h - 5);
  const line = path(values, x, y), el = svg("svg", { viewBox: `0 0 ${w} ${h}`, class: `spark ${kind}`, "aria-hidden": "true", preserveAspectRatio: "none" });
  if (values.some(v => v > 0)) el.append(svg("path", { d: `${line}L${w} ${h}L${x(0)} ${h}Z`, class: "area" }));
  el.append(svg("path", { d: line, class: "line" }));
  return el;
}

// A chart with axes and a pointer that tells the values: series [{ name, kind, values, area }], one value a step.
export class Chart {
  constructor(host, { step, points, format = v => number(v, 1), log = false }) {
    Object.assign(this, { host, step, points, format, log });
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.legend = document.createElement("p");
    this.legend.className = "legend";
    this.box = document.createElement("div");
    this.box.className = "plot";
    host.replaceChildren(this.box, this.legend, this.tip);
    this.box.addEventListener("pointermove", e => this.point(e));
    this.box.addEventListener("pointerleave", () => { this.tip.hidden = true; this.cross?.setAttribute("visibility", "hidden"); });
    new ResizeObserver(() => this.series && this.draw(this.series)).observe(this.box);
  }

  draw(series) {
    this.series = series;
    const w = this.w = Math.max(this.box.clientWidth, 220), h = this.h = 150, left = this.log ? 56 : 44, right = 8, top = 8, bottom = 22;
    const known = series.flatMap(s => s.values.filter(v => v != null)), max = Math.max(...known, 0);
    const ceil = this.log ? 10 ** Math.max(1, Math.ceil(Math.log10(Math.max(max, 1)))) : ceiling(max);
    const floor = this.log ? 0.1 : 0, scale = this.log ? v => Math.log10(Math.max(v, floor) / floor) / Math.log10(ceil / floor) : v => v / ceil;
    const x = this.x = i => left + i * (w - left - right) / (this.points - 1), y = v => h - bottom - scale(v) * (h - top - bottom);
    const el = svg("svg", { viewBox: `0 0 ${w} ${h}`, width: w, height: h, role: "img" });
    const ticks = this.log ? Array.from({ length: Math.round(Math.log10(ceil / floor)) + 1 }, (_, i) => floor * 10 ** i) : [0, ceil / 2, ceil];
    for (const v of ticks)
      el.append(svg("line", { x1: left, x2: w - right, y1: y(v), y2: y(v), class: v === ticks[0] ? "axis" : "grid" }),
        svg("text", { x: left - 8, y: y(v) + 4, class: "label", "text-anchor": "end" }, this.log ? this.format(v) : number(v, v < 10 ? 1 : 0)));
    const span = this.points * this.step, back = s => (s < 3600 ? t("minutes_ago", { n: number(s / 60, 1) }) : t("time_ago", { time: duration(s) }));
    el.append(svg("text", { x: left, y: h - 5, class: "label" }, back(span)),
      svg("text", { x: x((this.points - 1) / 2), y: h - 5, class: "label", "text-anchor": "middle" }, back(span / 2)),
      svg("text", { x: w - right, y: h - 5, class: "label", "text-anchor": "end" }, t("now")));
    const shift = n => this.points - n;
    for (const s of series) {
      const at = i => x(i + shift(s.values.length)), d = path(s.values, at, y), last = s.values.length - 1;
      if (s.area && d && s.values.every(v => v != null)) el.append(svg("path", { d: `${d}L${at(last)} ${y(floor)}L${at(0)} ${y(floor)}Z`, class: `area ${s.kind}` }));
      el.append(svg("path", { d, class: `line ${s.kind}` }));
    }
    if (!known.some(v => v > 0)) el.append(svg("text", { x: (left + w - right) / 2, y: h / 2 - 6, class: "label none", "text-anchor": "middle" }, t("nothing_yet")));
    this.cross = svg("line", { y1: top, y2: h - bottom, class: "cross", visibility: "hidden" });
    el.append(this.cross);
    const latest = s => s.values.findLast(v => v != null);
    el.setAttribute("aria-label", series.map(s => `${s.name}: ${latest(s) == null ? "–" : this.format(latest(s))}`).join(", "));
    this.box.replaceChildren(el);
    this.legend.replaceChildren(...series.map(s => {
      const item = document.createElement("span"), swatch = document.createElement("i");
      swatch.className = s.kind;
      item.append(swatch, s.name);
      return item;
    }));
  }

  // Tells the values under the pointer.
  point(e) {
    if (!this.series) return;
    const box = this.box.getBoundingClientRect(), px = (e.clientX - box.left) * this.w / box.width;
    const i = Math.max(0, Math.min(this.points - 1, Math.round((px - this.x(0)) / (this.x(1) - this.x(0)))));
    const back = (this.points - 1 - i) * this.step;
    this.tip.replaceChildren(...[back === 0 ? t("now") : back < 3600 ? t("minutes_ago", { n: number(back / 60, 1) }) : t("time_ago", { time: duration(back) }), ...this.series.map(s => {
      const v = s.values[i - (this.points - s.values.length)];
      return `${s.name}: ${v == null ? "–" : this.format(v)}`;
    })].map(text => { const p = document.createElement("p"); p.textContent = text; return p; }));
    this.cross.setAttribute("x1", this.x(i));
    this.cross.setAttribute("x2", this.x(i));
    this.cross.setAttribute("visibility", "visible");
    this.tip.hidden = false;
    const left = this.x(i) * box.width / this.w;
    this.tip.classList.toggle("left", left > box.width * 0.6);
    this.tip.style.setProperty("--x", `${left}px`);
  }
}
