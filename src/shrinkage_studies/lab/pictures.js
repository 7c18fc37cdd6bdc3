// Draws small pictures as SVG: lines, bands and points between two axes, each linear or logarithmic.
"use strict";

const LEAST_WIDTH = 280;
const EDGE = { left: 62, right: 14, top: 12, bottom: 44 };

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
}

// A number as a person writes it: three digits, a power of ten where it is very small or large.
function written(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return "∞";
  return size >= 1e-3 && size < 1e4 ? String(Number(value.toPrecision(3))) : value.toExponential(1).replace("e+", "e").replace(".0", "");
}

// Where the ticks of an axis stand: whole powers of ten, or four to seven round numbers.
function ticksOf({ low, high, log }) {
  if (log) {
    const decades = [];
    for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power++) decades.push(10 ** power);
    const step = Math.ceil(decades.length / 7);
    return decades.filter((_, place) => place % step === 0);
  }
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

// Gives the function that places a value along an axis of so many pixels from `first` on. Zero of a logarithmic axis
// with `zero` stands at its left end, apart from the smallest other value.
function placing(axis, first, length) {
  const { low, high, log, zero } = axis;
  if (!log) return (value) => first + ((value - low) / (high - low)) * length;
  const gap = zero ? 0.06 * length : 0;
  const whole = Math.log10(high / low);
  return (value) => (value <= 0 ? first : first + gap + (Math.log10(value / low) / whole) * (length - gap));
}

// The smallest axis that holds the values; a logarithmic one down to the smallest that is not 0.
function axisAround(values, { log = false, least = 1e-300, ...rest } = {}) {
  const finite = values.filter((value) => Number.isFinite(value) && (!log || value > least));
  if (!finite.length) return { low: log ? 0.1 : 0, high: 1, log, ...rest };
  let [low, high] = [Math.min(...finite), Math.max(...finite)];
  if (log) [low, high] = [low / 1.25, high * 1.25];
  else if (low === high) [low, high] = [low - 0.5, high + 0.5];
  else [low, high] = [low - 0.04 * (high - low), high + 0.04 * (high - low)];
  return { low, high, log, ...rest };
}

// Draws a picture into an svg element. lines: {points: [[x, y], …], kind, label, dots}, kind a class of the style
// sheet. bands: {points: [[x, low, high], …], kind}. extra: more SVG, made by a function of the
// placing of x and of where the frame ends below. under: more
// names of the horizontal axis with the factor by which each multiplies its values.
function draw(svg, { x, y, lines = [], bands = [], extra = () => "", isSquare = false, under = [] }) {
  const width = Math.max(svg.parentElement.clientWidth, LEAST_WIDTH);
  const inner = width - EDGE.left - EDGE.right;
  const bottom = EDGE.top + (isSquare ? inner : Math.max(0.55 * inner, 230));
  const height = bottom + EDGE.bottom + 44 * under.length;
  const across = placing(x, EDGE.left, inner);
  const upwards = placing(y, 0, bottom - EDGE.top);
  const up = (value) => bottom - upwards(Math.min(Math.max(value, y.log ? y.low : -Infinity), y.log ? y.high : Infinity));
  const parts = [];
  for (const tick of ticksOf(y)) {
    parts.push(`<line class="grid" x1="${EDGE.left}" x2="${width - EDGE.right}" y1="${up(tick)}" y2="${up(tick)}"/>`);
    parts.push(`<text x="${EDGE.left - 8}" y="${up(tick) + 4}" text-anchor="end">${written(tick)}</text>`);
  }
  const [first, ...others] = ticksOf(x);
  for (const tick of x.zero ? [0, ...others] : [first, ...others]) {
    parts.push(`<line class="grid" x1="${across(tick)}" x2="${across(tick)}" y1="${EDGE.top}" y2="${bottom}"/>`);
    parts.push(`<text x="${across(tick)}" y="${bottom + 18}" text-anchor="middle">${written(tick)}</text>`);
  }
  parts.push(`<text class="name" x="${(EDGE.left + width - EDGE.right) / 2}" y="${bottom + 40}" text-anchor="middle">${escaped(x.name)}</text>`);
  under.forEach(({ name, factor }, place) => {
    const line = bottom + EDGE.bottom + 44 * place + 6;
    parts.push(`<line class="axis" x1="${EDGE.left}" x2="${width - EDGE.right}" y1="${line}" y2="${line}"/>`);
    for (const tick of ticksOf({ ...x, low: x.low * factor, high: x.high * factor })) {
      const at = across(tick / factor);
      parts.push(`<line class="axis" x1="${at}" x2="${at}" y1="${line}" y2="${line + 5}"/>`);
      parts.push(`<text x="${at}" y="${line + 18}" text-anchor="middle">${written(tick)}</text>`);
    }
    parts.push(`<text class="name" x="${(EDGE.left + width - EDGE.right) / 2}" y="${line + 34}" text-anchor="middle">${escaped(name)}</text>`);
  });
  parts.push(`<text class="name" transform="translate(15 ${(EDGE.top + bottom) / 2}) rotate(-90)" text-anchor="middle">${escaped(y.name)}</text>`);
  const frame = `<clipPath id="${svg.id}-frame"><rect x="${EDGE.left}" y="${EDGE.top - 2}" width="${inner}" height="${bottom - EDGE.top + 4}"/></clipPath>`;
  const inside = [];
  for (const { points, kind } of bands) {
    const there = points.map(([at, low]) => `${across(at).toFixed(1)},${up(low).toFixed(1)}`);
    const back = points.map(([at, , high]) => `${across(at).toFixed(1)},${up(high).toFixed(1)}`).reverse();
    inside.push(`<polygon class="${kind}" points="${[...there, ...back].join(" ")}"/>`);
  }
  for (const { points, kind, dots } of lines) {
    const seen = points.filter((point) => Number.isFinite(point[1]));
    const places = seen.map(([at, value]) => [across(at).toFixed(1), up(value).toFixed(1)]);
    if (!dots || dots === "joined") inside.push(`<polyline class="${kind}" points="${places.map((place) => place.join()).join(" ")}"/>`);
    if (dots) inside.push(...places.map(([at, value]) => `<circle class="${kind}" cx="${at}" cy="${value}" r="4"/>`));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.innerHTML = `${frame}${parts.join("")}<g clip-path="url(#${svg.id}-frame)">${inside.join("")}${extra(across, bottom)}</g>`;
}
