// Trains the chapter's problem as a run of shrinkage does: SGD over the run's own rows, start and order of batches.
"use strict";

// Reads numbers that were packed as base64, row after row, into an array of the given kind.
function unpack(text, Kind = Float64Array) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return new Kind(bytes.buffer);
}

// Makes of the page's numbers the arrays to compute with, and an orthonormal basis of the span of the training rows.
function readProblem(numbers) {
  const part = (packed) => ({ x: unpack(packed.x), y: unpack(packed.y) });
  const problem = {
    inputs: numbers.inputs, batch: numbers.batch, train: part(numbers.train), test: part(numbers.test),
    start: unpack(numbers.start), orders: unpack(numbers.orders, Uint8Array),
  };
  problem.span = spanOf(problem.train.x, numbers.inputs);
  return problem;
}

function dot(a, b, from, count) {
  let sum = 0;
  for (let j = 0; j < count; j++) sum += a[j] * b[from + j];
  return sum;
}

// Orthonormal rows with the span of the given ones, by Gram and Schmidt, each twice for the sake of rounding.
function spanOf(x, inputs) {
  const basis = [];
  for (let i = 0; i < x.length / inputs; i++) {
    const row = x.slice(i * inputs, (i + 1) * inputs);
    for (let pass = 0; pass < 2; pass++) {
      for (const other of basis) {
        const share = dot(other, row, 0, inputs);
        for (let j = 0; j < inputs; j++) row[j] -= share * other[j];
      }
    }
    const length = Math.hypot(...row);
    basis.push(row.map((value) => value / length));
  }
  return basis;
}

// The part of the weights that no training row reaches: what is left of them beside the span.
function outside(weight, span) {
  const rest = weight.slice();
  for (const row of span) {
    const share = dot(row, rest, 0, rest.length);
    for (let j = 0; j < rest.length; j++) rest[j] -= share * row[j];
  }
  return rest;
}

// The mean of ½ residual² over the rows of a part.
function lossOf(part, weight, bias) {
  let sum = 0;
  for (let i = 0; i < part.y.length; i++) {
    const residual = dot(weight, part.x, i * weight.length, weight.length) + bias - part.y[i];
    sum += residual * residual;
  }
  return sum / part.y.length / 2;
}

// Trains from the start of size sigma, and returns the weights, the bias and what was measured before each epoch and
// at the end. L2 acts through the gradient, w − η(g + λw); L1 by its prox after the step, which makes exact zeros.
function train(problem, { penalty, lambd, rate, epochs, sigma }, measure = true) {
  const { inputs, batch } = problem;
  const { x, y } = problem.train;
  const weight = problem.start.map((value) => sigma * value);
  const slope = new Float64Array(inputs);
  const found = { train: [], test: [], rested: [], norm: [], memory: [] };
  let bias = 0;
  let memory = 1;
  const look = () => {
    found.train.push(lossOf(problem.train, weight, bias));
    found.test.push(lossOf(problem.test, weight, bias));
    found.norm.push(Math.hypot(...weight));
    found.memory.push(memory);
    const rest = outside(weight, problem.span);
    found.rested.push(lossOf(problem.test, weight.map((value, j) => value - rest[j]), bias));
  };
  for (let epoch = 0; epoch < epochs; epoch++) {
    if (measure) look();
    for (let first = 0; first < y.length; first += batch) {
      slope.fill(0);
      let pull = 0;
      for (let k = first; k < first + batch; k++) {
        const row = problem.orders[epoch * y.length + k];
        const residual = (dot(weight, x, row * inputs, inputs) + bias - y[row]) / batch;
        for (let j = 0; j < inputs; j++) slope[j] += residual * x[row * inputs + j];
        pull += residual;
      }
      if (penalty === "l2") {
        for (let j = 0; j < inputs; j++) weight[j] -= rate * (slope[j] + lambd * weight[j]);
        memory *= 1 - rate * lambd;
      } else {
        for (let j = 0; j < inputs; j++) {
          const moved = weight[j] - rate * slope[j];
          weight[j] = Math.sign(moved) * Math.max(Math.abs(moved) - rate * lambd, 0);
        }
      }
      bias -= rate * pull;
    }
  }
  look();
  return { weight, bias, ...found };
}

// Two weights under a penalty: ½(w − c)ᵀH(w − c) with H = [[1, r], [r, 1]], and the points of proximal gradient steps.
function twoWeights({ penalty, lambd, correlation, centre, start, steps }) {
  const r = correlation;
  const rate = 1 / (1 + Math.abs(r) + (penalty === "l2" ? lambd : 0));
  const points = [start];
  let [u, v] = start;
  for (let step = 0; step < steps; step++) {
    const a = u - centre[0];
    const b = v - centre[1];
    let gradient = [a + r * b, r * a + b];
    if (penalty === "l2") gradient = [gradient[0] + lambd * u, gradient[1] + lambd * v];
    [u, v] = [u - rate * gradient[0], v - rate * gradient[1]];
    if (penalty === "l1") {
      [u, v] = [u, v].map((value) => Math.sign(value) * Math.max(Math.abs(value) - rate * lambd, 0));
    }
    points.push([u, v]);
  }
  return points;
}
