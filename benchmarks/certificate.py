"""What the certificate that is always on costs: its time as a share of the training that it is made after.

python benchmarks/certificate.py [--rounds 5]
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import config

from shrinkage.training.run import build


def share(*overrides: str) -> tuple[float, float]:
    """Seconds of the certificate, with the exact optimum and the words, over seconds of training; and the latter."""
    with TemporaryDirectory() as folder:
        training = build(config(*overrides), Path(folder))
        training.run()  # with a certificate, which also warms up what is imported on the way
        again = build(config(*overrides), Path(folder))
        again.module.certifier, certifier = None, again.module.certifier
        begun = time.perf_counter()
        again.run()
        trained = time.perf_counter() - begun
        again.module.certifier = certifier
        begun = time.perf_counter()
        again.conclusion = again.module.conclusion(again.trainer.global_step)
        again.verdict()
        return (time.perf_counter() - begun) / trained, trained


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for overrides in (
        ("data=diabetes", "lambd=0.1"),
        ("data=diabetes", "penalty=l1", "lambd=0.05"),
        ("data=d2l",),
        ("data=breast_cancer", "lambd=0.01"),
        ("data=digits", "lambd=0.01"),
    ):
        shares, seconds = zip(*(share(*overrides, "trainer.max_epochs=100") for _ in range(rounds)), strict=True)
        print(
            f"{' '.join(overrides):40} certificate/training, median {statistics.median(shares):.2%}, "
            f"largest {max(shares):.2%} of {statistics.median(seconds):.2f} s"
        )


if __name__ == "__main__":
    main()
