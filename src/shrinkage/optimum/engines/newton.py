"""Any convex loss under an elastic net: proximal Newton steps along a path.

Each step minimises a quadratic model of the loss plus the penalty exactly, over the weights that are not zero and the
worst of those that want to leave it. The model's second derivatives stay as they are, from step to step and from one
strength to the next, while the conditions of the optimum come nearer fast enough. References: Lee, Sun & Saunders
(2014), "Proximal Newton-type methods for minimizing composite functions"; Friedman, Hastie & Tibshirani (2010).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .columns import Array, DenseColumns
from .curvature import Curvature
from .entering import worst_of
from .quadratic import minimise
from .rows import Rows
from .together import minimise_together

ENOUGH, ENOUGH_FOR_L1 = 1e-10, 1e-12  # see `Descent.enough`
FAST = 0.1  # what may be left of the largest violation after a step whose model is kept
FASTER = 0.01  # the same, where a new model is cheap
CHEAP = 2_000_000  # multiply-adds of second derivatives that are hardly more work than a step
STEPS = 300
NEAR = 1e-6  # of the loss's largest slope at zero weights, where Newton's method converges if rounding lets it
STALLS = 3  # steps in a row with a model of their own that come hardly nearer there
ROUNDING = 1e-15  # of the objective
DECREASE = 1e-4  # what a step has to bring of what its slope promises
HALVINGS = 40


def newton_path(rows: Rows, strengths: Array) -> Iterator[tuple[Array, Array]]:
    """Solve for each (λ₁, λ₂) in strengths [K, 2], not both 0, in their order; yields W [outputs, p] and what is loose.

    Both are for the columns as the rows have them, which may be centred (`Rows.parameters`). Under λ₂ alone the weights
    are combinations of the rows; where these are fewer than the columns, the problem is solved in such combinations.
    """
    n, p = rows.x.shape
    if n < p and not strengths[:, 0].any():
        basis, triangle = np.linalg.qr(rows.x.whole().T)
        combined = DenseColumns(np.asfortranarray(triangle.T))
        for weight, loose in newton_path(replace(rows, x=combined), strengths):
            yield weight @ basis.T, loose
        return
    descent = Descent.begin(rows)
    for l1, l2 in strengths:
        descent.descend(float(l1), float(l2))
        yield descent.point.weight, descent.point.loose


@dataclass(frozen=True)
class Point:
    """Weights and what no penalty holds, and what the objective's conditions say there.

    weight: W [outputs, p]. loose: the bias and the weights of free columns, as `Rows` has them. output: [n, outputs].
    gradient: of the mean loss in the weights, [outputs, p]. own: in what is loose, zero where a bias is not free.
    worst: by how much the conditions of the optimum are missed at most. size: how strong a λ₁ has to be that holds the
    weights at zero there, |gradient| of each, [k·p], or what a column needs that is held together, [p]; 0 elsewhere.
    """

    weight: Array
    loose: Array
    output: Array
    gradient: Array
    own: Array
    worst: float
    size: Array

    @classmethod
    def at(cls, rows: Rows, l1: float, l2: float, weight: Array, loose: Array, output: Array) -> "Point":
        """Compute the slopes under λ₁ and λ₂ at weights whose outputs are known."""
        slope = rows.slope(output)
        gradient, own = rows.x.slopes_of(slope.T) / len(slope), rows.slope_in_loose(slope)
        return cls(weight, loose, output, gradient, own, *missed(rows, l1, l2, weight, gradient, own))

    def under(self, rows: Rows, l1: float, l2: float) -> "Point":
        """Look at the same weights under another λ₁ and λ₂."""
        worst, size = missed(rows, l1, l2, self.weight, self.gradient, self.own)
        return replace(self, worst=worst, size=size)


def missed(rows: Rows, l1: float, l2: float, weight: Array, gradient: Array, own: Array) -> tuple[float, Array]:
    """Compute `worst` and `size` of a point."""
    ridged = gradient + l2 * rows.ridge * weight
    if rows.together:
        on, size = np.flatnonzero(weight.any(axis=0)), np.linalg.norm(gradient, axis=0) / rows.root
        kept = np.abs(ridged[:, on] + l1 * rows.root * weight[:, on] / np.linalg.norm(weight[:, on], axis=0))
        size[on] = 0.0
        return float(max(kept.max(initial=0.0), rows.root * (size.max(initial=0.0) - l1), np.abs(own).max())), size
    on, size = np.nonzero(weight), np.abs(gradient)
    kept = np.abs(ridged[on] + l1 * np.sign(weight[on]))
    size[on] = 0.0
    return float(max(kept.max(initial=0.0), size.max(initial=0.0) - l1, np.abs(own).max())), size.ravel()


@dataclass
class Descent:
    """A way down a path: the point where it is, and the model of the loss that its last step has used.

    steepest: the loss's largest slope at zero weights.
    """

    rows: Rows
    point: Point
    steepest: float
    model: Curvature | None = None

    @classmethod
    def begin(cls, rows: Rows) -> "Descent":
        """Begin at zero weights and what is best for them of all that no penalty holds."""
        (n, p), k, loose = rows.x.shape, rows.outputs, rows.best_bias()
        output = np.zeros((n, k)) + loose
        if rows.free is not None:
            loose = np.append(loose, np.zeros(k * rows.free.shape[1]))
            none = replace(rows, x=rows.x.take(np.empty(0, dtype=np.int64)), ridge=1.0)
            point = Point.at(none, 0.0, 0.0, np.zeros((k, 0)), loose, output)
            alone = cls(none, point, float(np.abs(point.own).max()))
            alone.descend(0.0, 0.0)
            loose, output = alone.point.loose, alone.point.output
        point = Point.at(rows, 0.0, 0.0, np.zeros((k, p)), loose, output)
        return cls(rows, point, float(np.abs(point.gradient).max(initial=0.0)))

    def enough(self, l2: float) -> float:
        """By how much the conditions of the optimum may be missed: a gap is of first order in it, with λ₂ of second."""
        return (ENOUGH if l2 else ENOUGH_FOR_L1) * self.steepest

    def descend(self, l1: float, l2: float) -> None:
        """Go to the optimum under λ₁ and λ₂."""
        self.point = self.point.under(self.rows, l1, l2)
        before = nearest = np.inf
        stalls = 0
        for _ in range(STEPS):
            worst = self.point.worst
            if worst <= self.enough(l2):
                return
            nearest = min(nearest, worst)
            model, is_fresh = self.chosen_model(l1, l2, worst / before if before else np.inf)
            is_stalled = is_fresh and worst > before / 2 and worst < NEAR * self.steepest
            stalls = stalls + 1 if is_stalled else 0
            point = self.step(model, l1, l2, FAST * nearest)
            if (point is None and is_fresh) or stalls > STALLS:
                return
            before = worst if point else 0.0  # a model of this point may yet lead down
            self.point = point or self.point

    def chosen_model(self, l1: float, l2: float, left: float) -> tuple[Curvature, bool]:
        """Keep the model, the worst of the weights at zero entering it, or make one at this point if it was slow.

        left: what the last step left of the largest violation, ∞ if it led nowhere. Returns the model, and whether it
        was made here.
        """
        together, (k, p) = self.rows.together, self.point.weight.shape
        there = np.flatnonzero(self.point.weight.any(axis=0) if together else self.point.weight)

        def entering(size: Array) -> Array:
            return worst_of(size, l1 + self.enough(l2), l1, len(there)) if l1 else np.flatnonzero(size)

        if self.model is not None:
            outside = self.point.size.copy()
            outside[self.model.places % p if together else self.model.places] = 0.0
            new = entering(outside)
            is_cheap = len(self.point.output) * (len(there) * (k if together else 1)) ** 2 <= CHEAP
            if np.isfinite(left) and (left <= (FASTER if is_cheap else FAST) or (len(new) and not is_cheap)):
                if len(new):
                    self.model.extend(whole_columns(new, k, p) if together else new)
                return self.model, False
        places = np.union1d(there, entering(self.point.size))
        places = whole_columns(places, k, p) if together else places
        self.model = Curvature.at(self.rows, self.point.output, places)
        return self.model, True

    def step(self, model: Curvature, l1: float, l2: float, quick: float) -> Point | None:
        """Go to the model's minimum if that misses the conditions by no more than `quick`, or if the objective falls.

        Else a part of the way, as far as it falls; None if it does not.
        """
        at, places = self.point, model.places
        start = at.weight.ravel()[places]
        left = at.gradient.ravel()[places] - model.across @ (model.inverse @ at.own)
        if l1:
            ridge = l2 * np.tile(np.broadcast_to(self.rows.ridge, at.weight.shape[1]), self.rows.outputs)[places]
            pull = model.hessian @ start - left
            if self.rows.together:
                held, group = l1 * self.rows.root, places % at.weight.shape[1]
                change = minimise_together(model.hessian, pull, held, ridge, start, group) - start
            else:
                change = minimise(model.hessian, pull, l1, ridge, start) - start
        else:  # where every column has the same λ₂
            change = -model.solve(l2, left + l2 * start)
        turn = -model.inverse @ (at.own + model.across.T @ change)
        weight = np.zeros_like(at.weight)
        weight.ravel()[places] = change
        output = self.rows.outputs_of(weight) + self.rows.outputs_of_loose(turn)

        def part(share: float) -> Point:
            moved = at.weight + share * weight
            return Point.at(self.rows, l1, l2, moved, at.loose + share * turn, at.output + share * output)

        # Where the loss is infinite, its slopes mean nothing.
        is_finite = np.isfinite(self.objective(l1, l2, at.weight + weight, at.output + output))
        whole = part(1.0) if is_finite else None
        if whole is not None and whole.worst <= quick:
            return whole
        now = self.objective(l1, l2, at.weight, at.output)
        promised = float(at.gradient.ravel()[places] @ change + at.own @ turn)
        promised += self.penalty(l1, l2, at.weight + weight) - self.penalty(l1, l2, at.weight)
        share = 1.0
        for _ in range(HALVINGS):
            there = self.objective(l1, l2, at.weight + share * weight, at.output + share * output)
            if there <= now + DECREASE * share * min(promised, 0.0) + ROUNDING * abs(now):
                return whole if share == 1.0 and whole is not None else part(share)
            share /= 2
        return None

    def objective(self, l1: float, l2: float, weight: Array, output: Array) -> float:
        """Compute the objective from weights and the outputs that they give."""
        return float(self.rows.losses(output).mean()) + self.penalty(l1, l2, weight)

    def penalty(self, l1: float, l2: float, weight: Array) -> float:
        """Compute λ₁‖W‖₁ + ½λ₂‖W‖², with what multiplies λ₂ of each column; λ₁ may hold columns together."""
        squares = np.square(weight)
        sizes = self.rows.root * np.sqrt(squares.sum(axis=0)) if self.rows.together else np.abs(weight)
        return float(l1 * sizes.sum() + l2 / 2 * (self.rows.ridge * squares).sum())


def whole_columns(columns: Array, outputs: int, p: int) -> Array:
    """Give the places of all the weights of some columns."""
    return np.add.outer(p * np.arange(outputs), columns).ravel()
