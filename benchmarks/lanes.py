"""How the cost of lanes grows: python benchmarks/lanes.py [--lanes 1 10 100 1000] [--threads 1 2] [--accelerator cpu]

Each row is a process of its own that trains K lanes (10 seeds) without a store and tells its seconds of training and
its peak memory; beside it, K times the seconds of one run trained alone. linear is the chapter's problem at 100
epochs, mlp a 64-64-10 network on digits for 5.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parents[1] / "conf"
PROBLEMS = {
    "linear": ["experiment=d2l", "trainer.max_epochs=100"],
    "mlp": ["data=digits", "model=mlp", "model.widths=[64]", "lambd=0.001", "trainer.max_epochs=5"],
}


def config(problem: str, threads: int, accelerator: str) -> DictConfig:
    trainer = "gpu" if accelerator == "gpu" else "cpu"
    overrides = [*PROBLEMS[problem], f"threads={threads}", f"trainer={trainer}", "tracking=none", "progress=false"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    own = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
    return OmegaConf.create(OmegaConf.to_container(own, resolve=True))


def measure(problem: str, lanes: int, threads: int, accelerator: str) -> None:
    """One row, in a process of its own; lanes = 0 is one run trained alone."""
    import torch

    from shrinkage.training.lanes_training import build_lanes
    from shrinkage.training.run import build
    from shrinkage.training.workshop import Workshop

    cfg = config(problem, threads, accelerator)
    with tempfile.TemporaryDirectory() as folder:
        build(config(problem, threads, accelerator), Path(folder)).run()  # what is paid once a process
        torch.set_num_threads(threads)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        if lanes == 0:
            build(cfg, Path(folder)).run()
        else:
            cfgs = []
            for number in range(lanes):
                lane = cfg.copy()
                lane.lambd, lane.seed = cfg.lambd * (1 + number // 10) / lanes, number % 10
                cfgs.append(lane)
            build_lanes(cfgs, Workshop(cfg), Path(folder), on_end=lambda lane: None).run()
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"seconds": seconds, "before_mib": before / 1024, "peak_mib": peak / 1024}
    if accelerator == "gpu":
        found["gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 10, 100, 1000, 10000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        measure(options.problems[0], options.lanes[0], options.threads[0], options.accelerator)
        return
    for problem in options.problems:
        for threads in options.threads:
            print(f"{problem}, {threads} thread(s): K, seconds, ms a lane, times one by one, MiB more than one run")
            alone = None
            for lanes in [0, *options.lanes]:
                arguments = ["--row", "--problems", problem, "--lanes", str(lanes), "--threads", str(threads)]
                command = [sys.executable, __file__, *arguments, "--accelerator", options.accelerator]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"  {lanes:6}  failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
                    continue
                found = json.loads(done.stdout.strip().splitlines()[-1])
                if lanes == 0:
                    alone = found["seconds"]
                    print(f"  alone   {alone:8.2f}")
                    continue
                more = found["peak_mib"] - found["before_mib"]
                gpu = f"  GPU {found['gpu_mib']:.0f}" if "gpu_mib" in found else ""
                print(
                    f"  {lanes:6}  {found['seconds']:8.2f}  {found['seconds'] / lanes * 1e3:8.2f}  "
                    f"{lanes * alone / found['seconds']:8.1f}  {more:8.0f}{gpu}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
