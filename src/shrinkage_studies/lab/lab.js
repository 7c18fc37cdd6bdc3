// The page: sliders, what follows from them, and the pictures of it.
"use strict";

const NUMBERS = JSON.parse(document.getElementById("numbers").textContent);
const PROBLEM = readProblem(NUMBERS);
const get = (id) => document.getElementById(id);
const CHOICES = {
  lambd: NUMBERS.strengths,
  rate: [0.0003, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03],
  epochs: [1, 2, 3, 5, 10, 20, 50, 100, 150, NUMBERS.epochs],
  sigma: [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
};
const EDITIONS = {
  "first-edition": { lambd: 3, rate: 0.003, epochs: 100, sigma: 1 },
  today: { lambd: 3, rate: 0.01, epochs: 10, sigma: 0.01 },
  "zero-start": { sigma: 0 },
};
const AT_ONCE = 3; // λ's of the last picture between two frames
let waiting = 0;

const percent = (share) => (share > 0.9995 ? "100 %" : share < 1e-4 ? "0 %" : `${Number((100 * share).toPrecision(2))} %`);

// What the sliders and the switch say now.
function settings() {
  const found = { penalty: document.querySelector("input[name=penalty]:checked").value };
  for (const [name, choices] of Object.entries(CHOICES)) found[name] = choices[get(name).value];
  return found;
}

function show(name, value) {
  get(`${name}-value`).textContent = written(value);
  get(name).setAttribute("aria-valuetext", written(value));
}

function exactAt(set) {
  const place = NUMBERS.strengths.indexOf(set.lambd);
  return Object.fromEntries(Object.entries(NUMBERS.optima[set.penalty]).map(([name, values]) => [name, values[place]]));
}

function answer(set, run, exact) {
  const end = (name) => run[name][run[name].length - 1];
  if (!Number.isFinite(end("train"))) {
    return `At λ = ${written(set.lambd)} and η = ${written(set.rate)} training diverges: a step multiplies a weight by 1 − ηλ = ${written(1 - set.rate * set.lambd)}, or follows its gradient too far. Take a smaller η.`;
  }
  const first = `At λ = ${written(set.lambd)} the run ends with a test loss of ${written(end("test"))}; the exact minimiser has ${written(exact.test)}. `;
  if (set.penalty === "l1") {
    const zeros = run.weight.filter((value) => value === 0).length / run.weight.length;
    return `${first}${percent(zeros)} of its weights are exactly zero, of the minimiser’s ${percent(exact.zeros)}.`;
  }
  const left = set.sigma === 0 ? "It starts at zero, so there is no start to forget" : `${percent(end("memory"))} of the start is left in the directions that no row reaches; without it the run would have ${written(end("rested"))}`;
  return `${first}${left}.`;
}

function drawRun(set, run, exact) {
  const epochs = run.train.map((_, epoch) => epoch);
  const points = (values) => epochs.map((epoch) => [epoch, values[epoch]]);
  const level = (value) => [[0, value], [set.epochs, value]];
  const x = { ...axisAround([0, set.epochs]), low: 0, high: set.epochs, name: "epochs finished" };
  const isL2 = set.penalty === "l2";
  get("rested-legend").hidden = !isL2;
  draw(get("losses"), {
    x,
    y: { ...axisAround([...run.train, ...run.test, exact.test], { log: true, least: 1e-12 }), name: "mean of ½ residual²" },
    lines: [
      { points: points(run.train), kind: "train" },
      ...(isL2 ? [{ points: points(run.rested), kind: "rested" }] : []),
      { points: level(exact.test), kind: "exact" },
      { points: points(run.test), kind: "test" },
    ],
  });
  draw(get("norms"), {
    x,
    y: { ...axisAround([0, ...run.norm, exact.norm]), name: "‖w‖" },
    lines: [{ points: level(exact.norm), kind: "exact" }, { points: points(run.norm), kind: "test" }],
  });
}

const markAt = (place, bottom) => `<line class="here" x1="${place}" x2="${place}" y1="0" y2="${bottom}"/>`;

// Draws where the run of each λ ends, a few λ's a frame, so that a slider never waits for it.
function drawEnds(set) {
  const mine = ++waiting;
  const strengths = NUMBERS.strengths.filter((value, place) => place % 3 === 0 || value === set.lambd);
  const ends = [];
  const optima = NUMBERS.strengths.map((value, place) => [value, NUMBERS.optima[set.penalty].test[place]]);
  const isL2 = set.penalty === "l2";
  const next = () => {
    if (mine !== waiting) return;
    for (const lambd of strengths.slice(ends.length, ends.length + AT_ONCE)) {
      const run = train(PROBLEM, { ...set, lambd }, false);
      ends.push([lambd, run.test[0], run.rested[0]]);
    }
    const isWhole = ends.length === strengths.length;
    if (isWhole || ends.length % 9 === 0) {
      draw(get("ends"), {
        x: { low: 1e-3, high: 100, log: true, zero: true, name: "λ, with 0 at the left" },
        y: { ...axisAround([...ends.map((end) => end[1]), ...optima.map((point) => point[1]), NUMBERS.mean], { log: true }), name: "test loss at the end" },
        lines: [
          { points: optima, kind: "exact" },
          ...(isL2 ? [{ points: ends.map(([at, , rested]) => [at, rested]), kind: "rested" }] : []),
          { points: ends, kind: "test", dots: "joined" },
        ],
        extra: (across, bottom) => markAt(across(set.lambd), bottom),
      });
    }
    if (!isWhole) requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}

function drawConventions(lambd) {
  const x = { low: 1e-3, high: 100, log: true };
  const name = ({ written: label }) => label;
  const norms = NUMBERS.optima.l2.norm;
  const [first, ...rest] = NUMBERS.conventions;
  draw(get("conventions"), {
    x: { ...x, name: name(first) },
    y: { ...axisAround([0, ...norms]), name: "‖w‖" },
    lines: [{ points: NUMBERS.strengths.map((value, place) => [value, norms[place]]).slice(1), kind: "test" }],
    under: rest.map((each) => ({ name: name(each), factor: each.factor })),
    extra: (across, bottom) => (lambd > 0 ? markAt(across(lambd), bottom) : ""),
  });
  const labels = NUMBERS.conventions.map((each) => `<li><code>${escaped(each.written.replace("…", written(lambd * each.factor)))}</code></li>`);
  get("labels").innerHTML = labels.join("");
}

function update() {
  const set = settings();
  for (const name of Object.keys(CHOICES)) show(name, set[name]);
  const run = train(PROBLEM, set);
  const exact = exactAt(set);
  get("answer").textContent = answer(set, run, exact);
  const sigma = `model.sigma=${set.sigma} optimizer.lr=${set.rate} trainer.max_epochs=${set.epochs}`;
  get("command").textContent = `python train.py penalty=${set.penalty} lambd=${set.lambd} ${sigma}`;
  drawRun(set, run, exact);
  drawEnds(set);
  drawConventions(set.lambd);
}

function updateTwo() {
  const lambd = Number(get("two-lambd").value);
  const correlation = Number(get("correlation").value);
  show("two-lambd", lambd);
  show("correlation", correlation);
  const centre = [1.8, 0.7];
  const side = { low: -2.5, high: 2.5, log: false };
  const words = [];
  for (const penalty of ["l1", "l2"]) {
    const problem = { penalty, lambd, correlation, centre, start: [-1.6, 2], steps: 2000 };
    const steps = twoWeights(problem);
    const [u, v] = steps[steps.length - 1];
    const turns = Array.from({ length: 97 }, (_, place) => (place / 48) * Math.PI);
    const ellipse = (level) => turns.map((turn) => {
      const along = Math.sqrt((2 * level) / (1 + correlation)) * Math.cos(turn);
      const beside = Math.sqrt((2 * level) / (1 - correlation)) * Math.sin(turn);
      return [centre[0] + (along + beside) / Math.SQRT2, centre[1] + (along - beside) / Math.SQRT2];
    });
    const [a, b] = [u - centre[0], v - centre[1]];
    const touching = (a * a + b * b) / 2 + correlation * a * b;
    const size = penalty === "l1" ? Math.abs(u) + Math.abs(v) : Math.hypot(u, v);
    const ball = penalty === "l1" ? [[size, 0], [0, size], [-size, 0], [0, -size], [size, 0]] : turns.map((turn) => [size * Math.cos(turn), size * Math.sin(turn)]);
    draw(get(`two-${penalty}`), {
      x: { ...side, name: "w₁" }, y: { ...side, name: "w₂" }, isSquare: true,
      lines: [
        ...[0.05, 0.2, 0.5, 1, 2, 4].map((level) => ({ points: ellipse(level), kind: "loss" })),
        { points: ellipse(touching), kind: "exact" },
        { points: ball, kind: `ball-${penalty}` },
        { points: steps.slice(0, 60), kind: `steps-${penalty}`, dots: "joined" },
      ],
    });
    const zeros = [u, v].filter((value) => value === 0).length;
    words.push(`${penalty.toUpperCase()} ends at (${written(u)}, ${written(v)})${zeros ? `, ${zeros === 1 ? "one weight" : "both weights"} exactly zero` : ""}`);
  }
  get("two-answer").textContent = `${words.join("; ")}.`;
}

function drawForum() {
  const { posted, seeds, train: trained, test } = NUMBERS.forum;
  get("seeds").textContent = seeds;
  [["forum-train", trained, 1], ["forum-test", test, 2]].forEach(([id, quantiles, column]) => {
    const strengths = posted.map((row) => row[0]);
    draw(get(id), {
      x: { low: -0.4, high: 10.4, log: false, name: "λ" },
      y: { ...axisAround([...quantiles.flat(), ...posted.map((row) => row[column])], { log: true }), name: "mean residual²" },
      bands: [{ points: strengths.map((at, place) => [at, quantiles[place][0], quantiles[place][2]]), kind: "band" }],
      lines: [
        { points: strengths.map((at, place) => [at, quantiles[place][1]]), kind: "test" },
        { points: posted.map((row) => [row[0], row[column]]), kind: "posted", dots: "alone" },
      ],
    });
  });
}

function choose(values) {
  for (const [name, value] of Object.entries(values)) get(name).value = CHOICES[name].indexOf(value);
  update();
}

for (const [name, choices] of Object.entries(CHOICES)) {
  Object.assign(get(name), { min: 0, max: choices.length - 1, step: 1 });
  get(name).addEventListener("input", update);
}
for (const [id, values] of Object.entries(EDITIONS)) get(id).addEventListener("click", () => choose(values));
for (const radio of document.querySelectorAll("input[name=penalty]")) radio.addEventListener("change", update);
for (const id of ["two-lambd", "correlation"]) get(id).addEventListener("input", updateTwo);
get("mean").textContent = written(NUMBERS.mean);
choose(EDITIONS["first-edition"]);
updateTwo();
drawForum();
window.addEventListener("resize", () => [update, updateTwo, drawForum].forEach((each) => each()));
