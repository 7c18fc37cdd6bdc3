"""A lasso path over five folds of wide, sparse rows: seconds, memory and gaps, beside celer or scikit-learn.

python benchmarks/sparse.py [--rows 4000] [--columns 100000] [--density 0.001] [--num 100] [--peer PYTHON]

`solving` is the engine with its certificates on each fold's training rows; `choose` is the whole command, from the file
to the report. The full size is --rows 16000 --columns 1000000. The rows are drawn: 200 columns say something of y, with
a third as much noise. The peer is scikit-learn's lasso path, or celer's where --peer names a Python that has it; both
centre the columns as ours does, at a tolerance that leaves at most 1e-6 of the null objective. Processor time, of one
thread.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from processor import processor_seconds
from scipy.sparse import coo_array, save_npz

ROOT = Path(__file__).parents[1]
PREPARED = """
import json, resource, sys, time
import numpy as np
from scipy.sparse import csc_array, csc_matrix, load_npz
from sklearn.model_selection import KFold

def folds():
    x, y = load_npz(sys.argv[1]).tocsr(), np.load(sys.argv[2])
    for train, _ in KFold(5, shuffle=True, random_state=0).split(y):
        part = csc_array(x[train])
        mean = part.mean(axis=0)
        scale = np.sqrt(part.multiply(part).mean(axis=0) - mean**2)
        scale[scale == 0] = 1
        part.data /= np.repeat(scale, np.diff(part.indptr))
        yield part, y[train] - y[train].mean(), mean / scale

def tell(seconds, gaps):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "gap": max(gaps), "memory": peak}))
"""
OURS = """
import torch
from shrinkage.optimum.engines.path import solve_in_turn
from shrinkage.optimum.sparse_problem import SparseProblem
from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import Target
seconds, gaps = 0.0, []
for x, y, _ in folds():
    begun = time.process_time()
    problem = SparseProblem(x, torch.from_numpy(y), task_for(Target(classes=None)), "free")
    l1 = np.geomspace(1, 1 / 20, int(sys.argv[3])) * problem.lambda_max()
    worst = max(points.gap.max() for _, points in solve_in_turn(problem, np.stack([l1, 0 * l1], axis=1)))
    seconds += time.process_time() - begun
    gaps.append(float(worst / (y @ y / 2 / len(y))))
tell(seconds, gaps)
"""
PEER = """
import warnings
warnings.simplefilter("ignore")
try:
    from celer import celer_path
    x = csc_matrix(np.eye(20))
    celer_path(x, np.ones(20), "lasso", alphas=[0.01], X_offset=np.zeros(20), X_scale=np.ones(20))  # it compiles
    def path(x, y, mean, alphas):
        x = csc_matrix(x)
        return celer_path(x, y, "lasso", alphas=alphas, tol=5e-7, X_offset=mean, X_scale=np.ones(len(mean)))[2]
except ImportError:
    from sklearn.linear_model import enet_path
    def path(x, y, mean, alphas):
        more = {"X_offset": mean, "X_scale": np.ones(len(mean)), "check_input": False, "precompute": False}
        return enet_path(x, y, l1_ratio=1.0, alphas=alphas, tol=5e-7, max_iter=10_000, **more)[2]
seconds, gaps = 0.0, []
for x, y, mean in folds():
    largest = np.abs(x.T @ y).max() / len(y)
    begun = time.process_time()
    found = path(x, y, mean, np.geomspace(1, 1 / 20, int(sys.argv[3])) * largest)
    seconds += time.process_time() - begun
    gaps.append(float(np.max(found) / (y @ y / 2 / len(y))))
tell(seconds, gaps)
"""


def make_rows(folder: Path, rows: int, columns: int, density: float) -> tuple[Path, Path]:
    """Draw rows and their targets, and write them as SciPy and NumPy do."""
    random = np.random.default_rng(0)
    count = int(rows * columns * density)
    places = random.integers(0, rows, count, dtype=np.int32), random.integers(0, columns, count, dtype=np.int32)
    x = coo_array((random.standard_normal(count), places), shape=(rows, columns)).tocsc()
    weight = np.zeros(columns)
    weight[random.choice(columns, 200, replace=False)] = random.standard_normal(200)
    signal = x @ weight
    save_npz(folder / "x.npz", x, compressed=False)
    np.save(folder / "y.npy", signal + 0.3 * signal.std() * random.standard_normal(rows))
    return folder / "x.npz", folder / "y.npy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--columns", type=int, default=100_000)
    parser.add_argument("--density", type=float, default=0.001)
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--peer", default=sys.executable, help="a Python that has celer")
    given = parser.parse_args()
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with TemporaryDirectory() as name:
        x, y = make_rows(Path(name), given.rows, given.columns, given.density)
        arguments = [str(x), str(y), str(given.num)]
        for what, python, program in (("solving", sys.executable, OURS), ("peer", given.peer, PEER)):
            _, printed = processor_seconds([python, "-c", PREPARED + program, *arguments], name, **one)
            found = json.loads(printed.splitlines()[-1])
            print(
                f"{what:8} {found['seconds']:8.1f} s  gap ≤ {found['gap']:.0e} of the null objective  "
                f"{found['memory']:.1f} GiB",
                flush=True,
            )
        own = [f"data.path={x}", f"data.target={y}", "penalty=l1", f"hydra.sweeper.num={given.num}"]
        own += ["hydra.sweeper.ratio=0.05", "tracking.checkpoints=none", "tracking=none", "progress=false", "threads=1"]
        command = [sys.executable, str(ROOT / "train.py"), "experiment=choose", "data=libsvm", *own]
        measured = ["/usr/bin/time", "-f", "%M", "-o", f"{name}/memory", *command]
        taken, _ = processor_seconds(measured, name, **one)
        memory = int(Path(name, "memory").read_text().split()[-1]) / 2**20
        print(f"{'choose':8} {taken:8.1f} s  {memory:.1f} GiB")


if __name__ == "__main__":
    main()
