"""The forum's table: training and test loss against λ = 0 … 10 on the chapter's problem."""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from shrinkage.report.figures import BLUE, GREY, ORANGE, empty_panels, strength_axis
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, train_together, vary
from shrinkage.studies.numbers import check_count

# As posted under "Weight Decay" in d2l.ai's forum: λ, training loss, test loss.
POSTED = (
    (0, 2.360348e-13, 1.914223),
    (1, 3.561247e-04, 0.035403),
    (2, 1.136713e-03, 0.018138),
    (3, 2.143079e-03, 0.017133),
    (4, 3.240126e-03, 0.017512),
    (5, 4.373294e-03, 0.017590),
    (6, 5.604185e-03, 0.017622),
    (7, 6.343381e-03, 0.017295),
    (8, 7.639927e-03, 0.017984),
    (9, 8.753147e-03, 0.017798),
    (10, 9.767077e-03, 0.017654),
)


@dataclass(frozen=True, kw_only=True)
class ForumTable(Study):
    """seeds: how many draws of the data, each with a start and an order of its own.

    The losses are mean squared residuals without the ½, as the post reports them.
    """

    seeds: int

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 50)

    def run(self, cfg: DictConfig) -> Findings:
        posted = pd.DataFrame(POSTED, columns=["λ", "posted train", "posted test"])
        cases = list(itertools.product(posted["λ"], range(self.seeds)))
        lanes = train_together([vary(cfg, lambd=lambd, seed=seed, data__seed=seed) for lambd, seed in cases])
        runs = pd.DataFrame(cases, columns=["λ", "seed"])
        for part, name in (("train", "train"), ("val", "test")):
            runs[name] = [2 * lane.measured[f"{part}/loss"] for lane in lanes]
        grouped = runs.groupby("λ")
        table = posted.assign(
            **{
                "train (median)": grouped["train"].median().to_numpy(),
                "test (median)": grouped["test"].median().to_numpy(),
            },
            **{"test (smallest)": grouped["test"].min().to_numpy(), "test (largest)": grouped["test"].max().to_numpy()},
        )
        inside = table["posted test"].between(table["test (smallest)"], table["test (largest)"])
        ratio = (table["posted train"] / table["train (median)"])[1:]
        rises = np.all(np.diff(table["train (median)"]) > 0)
        figure, (train, test) = empty_panels()
        for axes, name in ((train, "train"), (test, "test")):
            low, high = (grouped[name].quantile(share).to_numpy() for share in (0.05, 0.95))
            axes.fill_between(table["λ"], low, high, color=BLUE, alpha=0.2, label=f"5–95 % of {self.seeds} seeds")
            axes.plot(table["λ"], table[f"{name} (median)"], "o-", color=BLUE, ms=4, label="median")
            axes.plot(table["λ"], table[f"posted {name}"], "s", color=ORANGE, ms=5, label="posted")
            axes.set(ylabel=f"{name} loss (mean r²)", yscale="log")
            strength_axis(axes, table["λ"], logarithmic=False)
            axes.legend(frameon=False)
        data = cfg.data
        mean_alone = (1 + 1 / data.num_train) * (data.num_inputs * data.weight**2 + data.noise**2)
        test.axhline(mean_alone, color=GREY, ls=":", lw=1)
        test.text(10, 1.05 * mean_alone, "predicting the mean", ha="right", va="bottom", color=GREY, fontsize="small")
        medians = table["test (median)"]
        spread = (table["test (largest)"] - table["test (smallest)"])[2:].min()
        answer = [
            f"{inside.sum()} of {len(table)} posted test losses lie between the smallest and the largest of "
            f"{self.seeds} seeds; the training loss {'rises' if rises else 'does not rise'} with λ, as posted.",
            "The posted training losses are "
            f"{ratio.min():.1f} to {ratio.max():.1f} times our medians at λ ≥ 1, which nothing in the post explains.",
            "As the random start is decayed away, the median test loss falls by a factor of "
            f"{medians[0] / medians[1]:.0f} from λ = 0 to 1 and of {medians[1] / medians[2]:.1f} from 1 to 2; from 2 "
            f"on the medians differ by {np.ptp(medians[2:]):.2g}, and seeds by {spread:.2g}.",
        ]
        return Findings(answer, {"forum_table": table}, data={"runs": runs}, figures={"forum_table": figure})
