"""A Parquet file of millions of rows: the memory that training on it takes, and rows a second beside a plain loop.

python benchmarks/stream.py [--rows 20000000] [--columns 50] [--folder FOLDER]

The file is generated (float32, 100,000 rows a group) and kept in the folder. Both loops read it once in batches of
4,096 rows and take a step of SGD of a linear model on each; the plain one has no split, no standardisation and no
shuffle. Memory is the most that a process held, above what it held when all was imported.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 4096
GROUP = 100_000
PLAIN = """
import json, resource, sys, time
import pyarrow.parquet as pq, torch
torch.set_num_threads(1)
path, rows, columns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
names = [f"x{n}" for n in range(columns)]
model = torch.nn.Linear(columns, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
bare = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
for batch in pq.ParquetFile(path).iter_batches(4096, use_threads=False):
    x = torch.stack([torch.from_numpy(batch.column(name).to_numpy()) for name in names], dim=1)
    y = torch.from_numpy(batch.column("y").to_numpy())
    optimizer.zero_grad()
    ((model(x)[:, 0] - y) ** 2 / 2).mean().backward()
    optimizer.step()
seconds = time.perf_counter() - start
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "rows": rows, "memory": (most - bare) / 2**20}))
"""
OURS = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[4])
from pathlib import Path
from tempfile import TemporaryDirectory
from conftest import config
from shrinkage.training.run import build
import shrinkage.data.stream
overrides = ["data=stream", f"data.path={sys.argv[1]}", "data.target=y", "data.batch_size=4096", "optimizer.lr=0.01"]
cfg = config(*overrides, "trainer.max_epochs=1", "threads=1")
bare = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
times = {}
with TemporaryDirectory() as folder:
    start = time.perf_counter()
    training = build(cfg, Path(folder))
    times["first passes"] = time.perf_counter() - start
    rows = len(training.datamodule.parts["train"])
    measure = training.module.measure
    def timed(*arguments, **named):
        start = time.perf_counter()
        measure(*arguments, **named)
        times["measuring"] = times.get("measuring", 0.0) + time.perf_counter() - start
    training.module.measure = timed
    start = time.perf_counter()
    training.run()
    times["all of training"] = time.perf_counter() - start
seconds = times["all of training"] - times["measuring"]
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "rows": rows, "memory": (most - bare) / 2**20, "times": times}))
"""


def generate(path: Path, rows: int, columns: int) -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=columns).astype(np.float32)
    names = [f"x{number}" for number in range(columns)]
    schema = pa.schema([(name, pa.float32()) for name in [*names, "y"]])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, GROUP):
            x = random.standard_normal((min(GROUP, rows - start), columns), dtype=np.float32)
            y = x @ weight + random.standard_normal(len(x), dtype=np.float32)
            arrays = [*(pa.array(column) for column in np.ascontiguousarray(x.T)), pa.array(y)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=GROUP)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    path = given.folder / f"stream-{given.rows}-{given.columns}.parquet"
    if not path.exists():
        start = time.perf_counter()
        generate(path, given.rows, given.columns)
        print(f"{path}: {path.stat().st_size / 1e9:.1f} GB in {time.perf_counter() - start:.0f} s")
    tests = str(Path(__file__).parents[1] / "tests")
    found = {}
    for name, program in (("a plain loop", PLAIN), ("here", OURS)):
        command = [sys.executable, "-c", program, str(path), str(given.rows), str(given.columns), tests]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        speed = found[name]["rows"] / found[name]["seconds"]
        print(f"{name}: {speed:,.0f} rows a second, {found[name]['memory']:.2f} GiB above the bare process")
        for part, seconds in found[name].get("times", {}).items():
            print(f"  {part}: {seconds:.0f} s")
    plain, ours = (one["rows"] / one["seconds"] for one in found.values())
    print(f"training here goes at {ours / plain:.2f} of the plain loop's rows a second")


if __name__ == "__main__":
    main()
