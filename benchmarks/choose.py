"""What `experiment=choose` costs beside scikit-learn's three CV classes: the same file, penalties, λ's and folds.

python benchmarks/choose.py [--rounds 3] [--tables 300x16 …] [--tracked]

Processor time of whole processes with one BLAS thread, the median of a few rounds, taken in turn. `choose` is the
command with everything that it leaves behind; `solving` is what is the same work in it: to read the file, to prepare
five folds, to solve for 450 optima, to evaluate and to certify them, without imports. The peer is a script that reads
the file with pandas, scales it, and fits LassoCV, ElasticNetCV and RidgeCV; its imports count. --tracked: into a SQLite
store that is there, with the processes that write it.
"""

import argparse
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from processor import processor_seconds

ROOT = Path(__file__).parents[1]
TABLES = ["300x16", "20000x50", "100x2000", "2000x200"]

PEER = """
import sys, warnings
import numpy as np, pandas as pd
from sklearn.linear_model import ElasticNetCV, LassoCV, RidgeCV
from sklearn.preprocessing import StandardScaler
warnings.simplefilter("ignore")
table = pd.read_csv(sys.argv[1])
y = table.pop("y").to_numpy()
x = StandardScaler().fit_transform(table)
y = (y - y.mean()) / y.std()
LassoCV(alphas=30, cv=5).fit(x, y)
ElasticNetCV(alphas=30, l1_ratio=0.5, cv=5).fit(x, y)
RidgeCV(alphas=len(x) * np.geomspace(1e-3, 1e3, 30)).fit(x, y)
"""

SOLVING = """
import sys, time
from pathlib import Path
from tempfile import TemporaryDirectory
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from shrinkage.sweeps.path import lambda_path
from shrinkage.training.lanes_training import build_lanes
from shrinkage.training.workshop import Workshops

def config(*overrides):
    whole = compose("train", [f"data.path={sys.argv[1]}", "data=table", "data.target=y", "data.folds=5",
                              "trainer=exact", *overrides])
    whole.choices = {group: "" for group in whole.choices}
    return OmegaConf.create(OmegaConf.to_container(whole, resolve=True))

with initialize_config_dir(sys.argv[2], version_base="1.3"):
    asked = {(fold, penalty): config(f"data.fold={fold}", f"penalty={penalty}")
             for fold in range(5) for penalty in ("l1", "l2", "elastic_net")}
for node in asked[0, "l1"].values():
    if isinstance(node, dict | DictConfig) and "_target_" in node:
        get_object(node["_target_"])
workshops = Workshops()
begun = time.process_time()
paths = {penalty: lambda_path(asked[0, penalty], 30, None, None, False, workshops).lambd
         for penalty in ("l1", "l2", "elastic_net")}
taken = time.process_time() - begun
for (fold, penalty), cfg in asked.items():
    lanes, cfgs = [], [OmegaConf.merge(cfg, {"lambd": lambd}) for lambd in paths[penalty]]
    begun = time.process_time()
    with TemporaryDirectory() as folder:
        build_lanes(cfgs, workshops.open(cfg), Path(folder), lanes.append).run()
    taken += time.process_time() - begun
    assert len(lanes) == 30
print(taken)
"""


def make_table(name: str, folder: str) -> Path:
    """Write a table of correlated columns, of which a tenth say something of y."""
    n, p = map(int, name.split("x"))
    random = np.random.default_rng(0)
    x = random.normal(size=(n, p)) + 0.3 * random.normal(size=(n, 1))
    signal = x[:, : max(p // 10, 3)] @ random.normal(size=max(p // 10, 3))
    frame = pd.DataFrame(x, columns=[f"x{number}" for number in range(p)])
    frame["y"] = signal + signal.std() * random.normal(size=n)
    path = Path(folder, f"{name}.csv")
    frame.to_csv(path, index=False)
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--tracked", action="store_true")
    given = parser.parse_args()
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for name in given.tables:
        with TemporaryDirectory() as folder:
            path = make_table(name, folder)
            train = [sys.executable, str(ROOT / "train.py"), "experiment=choose", f"data.path={path}", "data.target=y"]
            store = f"tracking.uri=sqlite:///{folder}/mlflow.db" if given.tracked else "tracking=none"
            commands = {
                "choose": [*train, store, "progress=false"],
                "solving": [sys.executable, "-c", SOLVING, str(path), str(ROOT / "conf")],
                "scikit-learn": [sys.executable, "-c", PEER, str(path)],
            }
            if given.tracked:  # the first use of a store makes its tables, once and for all
                quick = [sys.executable, str(ROOT / "train.py"), "trainer.max_epochs=1", "progress=false", store]
                processor_seconds(quick, folder, **one)
            seconds: dict[str, list[float]] = {what: [] for what in commands}
            for _ in range(given.rounds):
                for what, command in commands.items():
                    taken, printed = processor_seconds(command, folder, **one)
                    seconds[what].append(float(printed.split()[-1]) if what == "solving" else taken)
            median = {what: statistics.median(each) for what, each in seconds.items()}
            peer = median["scikit-learn"]
            for what, taken in median.items():
                share = "" if what == "scikit-learn" else f"  {taken / peer:.1f} x scikit-learn"
                print(f"{name:10} {what:13} {taken:7.2f} s{share}", flush=True)


if __name__ == "__main__":
    main()
