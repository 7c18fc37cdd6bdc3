"""What an answer costs: three penalties, thirty λ's and five folds, by our engines and by those of others.

python benchmarks/answer.py [--rounds 3] [--only regression one_logit softmax sparse] [--tables 300x16 …]

Processor time with one BLAS thread and wall time, each the median of a few rounds, imports and reading left out. Ours
has the certificate of every point in it. Memory is by how much the peak of the resident set exceeds what was resident
before, the largest of the rounds. Each round is a process of its own (forked, or R's), so that none finds memory that
another has left. Beside each stands the worst duality gap that it leaves, over the objective of a model without
weights, computed by our certificate for all; a peer's own, at the tolerance that is named.

λ goes from λ_max to λ_max/1000, or to λ_max/100 where there are more columns than rows; from 1000 λ_max on for L2.
LassoCV and ElasticNetCV are fitted on the same folds and λ's, RidgeCV by its own leave-one-out, its cheapest. celer and
skglm have no L2 and no softmax, and celer's logistic loss no bias: they stand beside our time for L1 and the elastic
net alone. Compiling skglm takes no part. `sparse` is one lasso on all rows, λ from λ_max to λ_max/20, on a matrix of
which one number in a thousand is not zero. What is not installed (R's glmnet, celer, skglm) is missing.
"""

import argparse
import ctypes
import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import importlib.util
import multiprocessing
import shutil
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.sparse import csc_array, csc_matrix, random_array
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import ElasticNetCV, LassoCV, Ridge, RidgeCV, enet_path
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from shrinkage.optimum.engines.path import solve_path
from shrinkage.optimum.gaps import duality_gaps
from shrinkage.optimum.problem import Problem
from shrinkage.optimum.sparse_problem import SparseProblem
from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import Target

RATIOS, NUM, FOLDS, CLASSES = (1.0, 0.5, 0.0), 30, 5, 4
SHAPES = {
    "regression": ["300x16", "20000x50", "100x2000", "2000x200", "72x7129"],
    "one_logit": ["breast_cancer", "20000x50", "100x2000", "2000x200", "72x7129"],
    "softmax": ["digits", "100x2000", "72x7129", "2000x200", "20000x50"],
    "sparse": ["5000x100000"],
}
DENSITY, REACH = 1e-3, 1 / 20  # of the sparse matrix, and of its path
FAMILIES = {"regression": "gaussian", "one_logit": "binomial", "softmax": "multinomial"}
Points = list[tuple[np.ndarray, np.ndarray]]  # of each fold, weights [K, outputs, p] and biases [K, outputs]


@dataclass(frozen=True)
class Cost:
    """What it took to solve: seconds of processor and of wall time, and by how many bytes the peak of memory rose."""

    processor: float
    wall: float
    memory: float


Work = Callable[["Question"], tuple[Cost, Points]]

GLMNET = """
if (!requireNamespace("glmnet", quietly = TRUE)) quit(status = 3)
asked <- commandArgs(trailingOnly = TRUE)
family <- asked[1]; n <- as.integer(asked[2]); p <- as.integer(asked[3]); thresh <- as.numeric(asked[4])
status <- function(key) {  # in bytes
  line <- grep(key, readLines("/proc/self/status"), value = TRUE)
  1024 * as.numeric(gsub("[^0-9]", "", line))
}
numbers <- function(name) readBin(name, "double", file.size(name) / 8)
x <- matrix(numbers("x"), n, p); y <- numbers("y"); fold <- numbers("fold"); strengths <- matrix(numbers("s"), 3)
taken <- c(0, 0); out <- file("found", "wb")
invisible(gc()); writeLines("5", "/proc/self/clear_refs"); before <- status("VmRSS")
for (k in 0:4) {
  for (i in 1:3) {
    lambda <- strengths[i, ]
    rows <- fold != k; xs <- x[rows, ]; ys <- y[rows]
    if (family == "gaussian") { unit <- sqrt(mean((ys - mean(ys))^2)); ys <- ys / unit } else unit <- 1
    share <- c(1, 0.5, 0)[i] / unit; total <- share + 1 - c(1, 0.5, 0)[i]
    begun <- proc.time()
    fit <- glmnet::glmnet(xs, ys, family, alpha = share / total, lambda = lambda * total, standardize = FALSE,
                          thresh = thresh, maxit = 1e7)
    passed <- proc.time() - begun
    taken <- taken + c(sum(passed[1:2]), passed[3])
    found <- coef(fit, s = lambda * total)
    if (!is.list(found)) found <- list(found)
    for (each in found) writeBin(as.vector(as.matrix(each)) * unit, out)
  }
}
close(out)
cat(taken, status("VmHWM") - before)
"""


def table(kind: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Standardised columns and a target: a real table, or a tenth of correlated columns that say something."""
    if "x" not in name:
        x, y = {"breast_cancer": load_breast_cancer, "digits": load_digits}[name](return_X_y=True)
        return StandardScaler().fit_transform(x), y
    n, p = map(int, name.split("x"))
    random = np.random.default_rng(0)
    x = random.normal(size=(n, p)) + 0.3 * random.normal(size=(n, 1))
    outputs = CLASSES if kind == "softmax" else 1
    signal = x[:, : max(p // 10, 3)] @ random.normal(size=(max(p // 10, 3), outputs))
    if kind == "regression":
        y = signal[:, 0] + signal.std() * random.normal(size=n)
    elif kind == "one_logit":
        y = (signal[:, 0] + signal.std() * random.logistic(size=n) > 0).astype(np.int64)
    else:
        y = (signal + signal.std() * random.gumbel(size=signal.shape)).argmax(axis=1)
    return StandardScaler().fit_transform(x), y


def sparse_table(name: str) -> tuple[csc_array, np.ndarray]:
    """A matrix of mostly zeros, as it is, and a target made of a hundred of its columns and as much noise."""
    n, p = map(int, name.split("x"))
    random = np.random.default_rng(0)
    x = random_array((n, p), density=DENSITY, format="csc", rng=random, data_sampler=random.standard_normal)
    signal = x[:, random.choice(p, 100, replace=False)] @ random.normal(size=100)
    return x, signal + signal.std() * random.normal(size=n)


class Question:
    """A table, its folds as problems, and the strengths at which each is asked."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        if kind == "sparse":
            self.x, self.y = sparse_table(name)
            problem = SparseProblem(self.x, torch.from_numpy(self.y), task_for(Target(classes=None)), "free")
            self.folds, self.problems = [(np.arange(len(self.y)), np.empty(0))], [problem]
            self.lambdas = {1.0: np.geomspace(1, REACH, NUM) * problem.lambda_max()}
            self.strengths = np.stack([self.lambdas[1.0], np.zeros(NUM)], axis=1)
            return
        self.x, self.y = table(kind, name)
        self.folds = list(KFold(FOLDS, shuffle=True, random_state=0).split(self.x))
        classes = None if kind == "regression" else int(self.y.max()) + 1
        task = task_for(Target(classes=classes))
        self.problems = [
            Problem(torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows]), task, "free")
            for rows, _ in self.folds
        ]
        largest = Problem(torch.from_numpy(self.x), torch.from_numpy(self.y), task, "free").lambda_max()
        reach = 1e-2 if len(self.x) < self.x.shape[1] else 1e-3
        self.lambdas = {ratio: np.geomspace(1, reach, NUM) * largest / (ratio or 1e-3) for ratio in RATIOS}
        self.strengths = np.array(
            [(ratio * lambd, (1 - ratio) * lambd) for ratio in RATIOS for lambd in self.lambdas[ratio]]
        )

    def worst_gap(self, points: Points) -> float:
        """The worst duality gap of any point, over the objective of a model without weights."""
        worst = 0.0
        for problem, (weights, biases) in zip(self.problems, points, strict=True):
            l1, l2 = torch.from_numpy(self.strengths[: len(weights)]).T
            gaps = duality_gaps(problem, l1, l2, torch.from_numpy(weights), torch.from_numpy(biases))
            none = problem.best_bias_of(torch.zeros(problem.task.outputs, problem.width, dtype=torch.float64))
            worst = max(worst, float(gaps.max() / problem.objective(0.0, 0.0, *none)))
        return worst


def status(key: str) -> int:
    """A size that the system has of this process, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


class Meter:
    """Measures what a block costs, in a process of its own."""

    def __enter__(self) -> "Meter":
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before the fork is used again and seems to cost nothing
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the resident set starts again
        self.begun = time.process_time(), time.perf_counter(), status("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        processor, wall, memory = self.begun
        self.cost = Cost(time.process_time() - processor, time.perf_counter() - wall, status("VmHWM") - memory)


def in_a_process(work: Work, question: Question) -> tuple[Cost, Points]:
    """Let a forked process work, and take what it has found."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=lambda: there.send(work(question)))
    worker.start()
    there.close()
    found = here.recv()
    worker.join()
    return found


def ours(question: Question, ratios: int = len(RATIOS)) -> tuple[Cost, Points]:
    """Solve under the first of the penalties."""
    with Meter() as meter:
        solved = [solve_path(problem, question.strengths[: ratios * NUM]) for problem in question.problems]
    return meter.cost, [(each.weight, each.bias) for each in solved]


def sklearn(question: Question) -> tuple[Cost, Points]:
    """LassoCV + ElasticNetCV + RidgeCV; the points are those that their paths have in the folds."""
    x, y, lambdas = question.x, question.y, question.lambdas
    with Meter() as meter:
        LassoCV(alphas=lambdas[1.0], cv=question.folds).fit(x, y)
        ElasticNetCV(alphas=lambdas[0.5], l1_ratio=0.5, cv=question.folds).fit(x, y)
        RidgeCV(alphas=len(x) * lambdas[0.0]).fit(x, y)
    points: Points = []
    for rows, _ in question.folds:
        mean, level = x[rows].mean(axis=0), y[rows].mean()
        inner, target = np.asfortranarray(x[rows] - mean), y[rows] - level
        weights = [enet_path(inner, target, l1_ratio=r, alphas=lambdas[r])[1].T for r in (1.0, 0.5)]
        ridge = [Ridge(alpha=len(rows) * lambd, fit_intercept=False).fit(inner, target).coef_ for lambd in lambdas[0.0]]
        weight = np.concatenate([*weights, np.stack(ridge)])
        points.append((weight[:, None], (level - weight @ mean)[:, None]))
    return meter.cost, points


def celer(question: Question, tol: float) -> tuple[Cost, Points]:
    """Solve under L1 and the elastic net along celer's paths, set as its estimators are by default but for `tol`.

    It subtracts the means of a sparse matrix itself.
    """
    from celer import celer_path

    points: Points = []
    with Meter() as meter:
        for rows, _ in question.folds:
            mean, level = question.x[rows].mean(axis=0), question.y[rows].mean()
            target, settings = question.y[rows] - level, {"tol": tol, "max_iter": 100, "prune": 1}
            if question.kind == "sparse":
                x, settings = csc_matrix(question.x), {**settings, "X_offset": mean, "X_scale": np.ones_like(mean)}
            else:
                x = np.asfortranarray(question.x[rows] - mean)
            weight = np.concatenate(
                [
                    celer_path(x, target, "lasso", alphas=lambdas, l1_ratio=ratio, **settings)[1].T
                    for ratio, lambdas in question.lambdas.items()
                    if ratio
                ]
            )
            points.append((weight[:, None], (level - weight @ mean)[:, None]))
    return meter.cost, points


def skglm(question: Question) -> tuple[Cost, Points]:
    """Fit skglm's models under L1 and the elastic net, each λ beginning at the one before, at their own tolerance."""
    from skglm import ElasticNet, SparseLogisticRegression

    points: Points = []
    with Meter() as meter:
        for rows, _ in question.folds:
            x = csc_matrix(question.x) if question.kind == "sparse" else np.asfortranarray(question.x[rows])
            weights, biases = [], []
            for ratio, lambdas in question.lambdas.items():
                if not ratio:
                    continue
                kind = SparseLogisticRegression if question.kind == "one_logit" else ElasticNet
                model = kind(l1_ratio=ratio, warm_start=True)
                for lambd in lambdas:
                    model.set_params(alpha=lambd).fit(x, question.y[rows])
                    weights.append(model.coef_.reshape(1, -1).copy())
                    biases.append(np.reshape(model.intercept_, 1).astype(float))
            points.append((np.stack(weights), np.stack(biases)))
    return meter.cost, points


def glmnet(question: Question, thresh: float) -> tuple[Cost, Points]:
    """Fit in R: for each fold and penalty a path of all λ's.

    A Gaussian's target is divided by its deviation, and so is λ₁: glmnet does so by itself, with λ₂ too.
    """
    outputs, (n, p) = question.problems[0].task.outputs, question.x.shape
    with TemporaryDirectory() as name:
        folder = Path(name)
        fold = np.zeros(n)
        for number, (_, left_out) in enumerate(question.folds):
            fold[left_out] = number
        lambdas = np.stack([question.lambdas[ratio] for ratio in RATIOS])
        for file, numbers in (("x", question.x), ("y", question.y), ("fold", fold), ("s", lambdas)):
            (folder / file).write_bytes(np.asarray(numbers, dtype=float).tobytes(order="F"))
        asked = [FAMILIES[question.kind], str(n), str(p), str(thresh)]
        done = subprocess.run(["Rscript", "-e", GLMNET, *asked], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found = np.fromfile(folder / "found").reshape(FOLDS, len(RATIOS), outputs, NUM, p + 1)
    found = np.moveaxis(found, 2, 3).reshape(FOLDS, len(RATIOS) * NUM, outputs, p + 1)
    points = [(np.ascontiguousarray(each[:, :, 1:]), each[:, :, 0].copy()) for each in found]
    return Cost(*map(float, done.stdout.split())), points


def peers(kind: str) -> Iterator[tuple[str, Work]]:
    yield "ours", ours
    if kind == "regression":
        yield "scikit-learn", sklearn
    library = ["Rscript", "-e", 'library("glmnet")']
    if kind in FAMILIES and shutil.which("Rscript") and not subprocess.run(library, capture_output=True).returncode:
        yield "glmnet 1e-7", lambda question: glmnet(question, 1e-7)
        yield "glmnet 1e-14", lambda question: glmnet(question, 1e-14)
    has_celer, has_skglm = (
        importlib.util.find_spec(name) and kind in kinds
        for name, kinds in (("celer", ("regression", "sparse")), ("skglm", ("regression", "one_logit", "sparse")))
    )
    if kind != "sparse" and (has_celer or has_skglm):
        yield "ours, no L2", lambda question: ours(question, ratios=2)
    if has_celer:
        yield "celer 1e-4", lambda question: celer(question, 1e-4)
        if kind == "sparse":  # at which its gap is about ours
            yield "celer 1e-14", lambda question: celer(question, 1e-14)
    if has_skglm:
        skglm(Question(kind, "600x200"))  # compiles, where it does not count
        yield "skglm 1e-4", skglm


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SHAPES, nargs="*", default=list(SHAPES))
    parser.add_argument("--tables", nargs="*", help="of each kind; all by default")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of convergence, which the gap tells
    print(f"{'':10} {'':14} {'':13} {'processor':>9} {'wall':>7} {'memory':>7} {'worst gap':>9}  our processor time")
    for kind in given.only:
        for name in given.tables or SHAPES[kind]:
            question, own = Question(kind, name), 0.0
            for peer, solve in peers(kind):
                costs, found = zip(*(in_a_process(solve, question) for _ in range(given.rounds)), strict=True)
                processor, wall = (statistics.median(getattr(c, key) for c in costs) for key in ("processor", "wall"))
                memory, gap = max(cost.memory for cost in costs) / 1e6, question.worst_gap(found[0])
                own = processor if peer.startswith("ours") else own
                share = "" if peer.startswith("ours") else f"  {own / processor:.2f} of it"
                cost = f"{processor:7.2f} s {wall:5.2f} s {memory:4.0f} MB {gap:9.0e}"
                print(f"{kind:10} {name:14} {peer:13} {cost}{share}", flush=True)


if __name__ == "__main__":
    main()
