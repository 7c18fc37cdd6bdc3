"""The answer of a sweep: what to take, with its error, and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from shrinkage import split
from shrinkage.names import in_markdown
from shrinkage.tracking.source import COLOUR, RunSummary

from .rounding import SAME
from .shades import penalty_colour

FAR = 0.01  # of the optimum: further above it, a run tells of where it stopped more than of its penalty
ROUNDING = 1e-12
NAMES = 5


@dataclass(frozen=True)
class AtOneSE:
    """What is known of a setting at λ.1se. zeros, constant: as those of `Setting` at λ.min."""

    value: float
    mean: float
    error: float
    zeros: float
    constant: bool


@dataclass(frozen=True)
class Setting:
    """What is known of one setting over all its values of the axis.

    label: as typed, such as "penalty=elastic_net penalty.l1_ratio=0.5". min: λ.min. at_one_se: what is known at
    λ.1se, None where no error is known. mean, error: the metric at λ.min and its standard error, NaN where none is
    known. zeros: the mean share of zero weights there. constant: whether every weight there is zero in a model that is
    trained on all rows but the test rows. vanishing: whether λ.min is the largest λ tried, where larger ones would only
    shrink the weights and a constant would be as good. splits: J. values: how many λ's were tried. edge: "lower" or
    "upper" where λ.min ends the grid and a better one may lie beyond. runs: those behind each λ.
    """

    label: str
    params: dict[str, str]
    min: float
    mean: float
    error: float
    zeros: float
    constant: bool
    at_one_se: AtOneSE | None
    vanishing: bool
    values: int
    splits: int
    edge: str | None
    runs: dict[float, tuple[RunSummary, ...]] = field(repr=False, compare=False)

    @property
    def one_se(self) -> float | None:
        """λ.1se; None where no error is known."""
        return None if self.at_one_se is None else self.at_one_se.value

    def value_for(self, refit: str) -> float:
        """The λ that a refit takes: λ.1se for `1se`, where it is known, else λ.min."""
        return self.one_se if refit == "1se" and self.one_se is not None else self.min

    @property
    def name(self) -> str:
        """The label as it is said: elastic_net l1_ratio=0.5."""
        return self.label.removeprefix("penalty=").replace(" penalty.", " ") or "all runs"

    def marks(self, value: float, axis: str) -> list[str]:
        """Name the choices that fall on a value of the axis: λ.min, λ.1se."""
        return [f"{symbol(axis)}.min"] * (value == self.min) + ["λ.1se"] * (value == self.one_se)

    def runs_at(self, value: float) -> tuple[RunSummary, ...]:
        """The runs that stand behind one value of the axis; none for a value that was not tried."""
        return self.runs.get(value, ())


@dataclass(frozen=True)
class Comparison:
    """By how much the winner is better than another setting, each at its λ.min: difference ± half_width, the interval.

    difference is positive where the winner is better, half_width for the level that all pairs of settings share.
    """

    winner: str
    other: str
    difference: float
    half_width: float
    splits: int
    beats: bool
    sentence: str


@dataclass(frozen=True)
class Refit:
    """The winner trained once more on training and validation rows.

    value: of the axis, λ.min or λ.1se. zeros: the share of its weights that are zero, NaN where it is not known. run:
    which it was.
    """

    value: float
    zeros: float
    run: RunSummary


@dataclass(frozen=True)
class Answer:
    """What the runs say. settings: the best first. table: a row for each setting and value, in the same order.

    table's columns: setting, the axis by its name, runs, splits, mean, error, the means of COLUMNS, and what the row's
    runs know of their optimum. above: the largest share by which one of them stopped above it, NaN where none is
    certified. lambda_max: the largest of their λ_max, NaN where one is not known. at_lambda_max: whether a path begins
    here, at the λ_max of all rows but the test rows. notes: what the winner's curve says besides. about_error: what the
    standard error is over. refit: None where there is none.
    """

    metric: str
    larger_is_better: bool
    axis: str
    table: pd.DataFrame
    settings: tuple[Setting, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    about_error: tuple[str, ...]
    left_out: tuple[str, ...]
    runs: int
    refit: Refit | None
    sentence: str

    @property
    def winner(self) -> Setting:
        """The best setting."""
        return self.settings[0]

    @property
    def taken(self) -> list[RunSummary]:
        """The runs of the winner at its λ.min and its λ.1se."""
        values = dict.fromkeys((self.winner.min, self.winner.one_se))
        return [run for value in values if value is not None for run in self.winner.runs_at(value)]

    @property
    def symbol(self) -> str:
        """The axis as it is written."""
        return symbol(self.axis)

    def tags(self, report: str | None, jobs: str | None) -> dict[str, str]:
        """List the tags of a run that stands for all of them.

        report: the address of report.html from its page. jobs: that of the runs under it. None where the store has not
        given the run an address yet.
        """
        chosen = {f"{self.axis}.min": self.winner.min, f"{self.axis}.1se": self.winner.one_se}
        pages = f"[report.html]({report}), [its jobs by λ]({jobs})" if report else "report.html"
        words = [
            in_markdown(self.sentence),  # its first words are to be seen in a table, too
            pages,  # a few lines are to be seen, and links answer only there
            *(f"Warning: {in_markdown(warning)}" for warning in self.warnings),
        ]
        # MLflow shows the last of them as the run's description, of which it folds away all but some five lines, where
        # links do not answer until it is unfolded; so comparisons and notes are left to the report.
        return {name: repr(value) for name, value in chosen.items() if value is not None} | {
            "mlflow.note.content": "\n\n".join(words),
            COLOUR: penalty_colour(self.winner),
        }

    def one_split(self, most: int) -> dict[str, str]:
        """Choose params by which the runs become few enough to be looked at at once, those of one split and seed.

        Each says the value of the first run, until at most so many have all of them; none where there are no more.
        """
        runs = [run for setting in self.settings for behind in setting.runs.values() for run in behind]
        chosen: dict[str, str] = {}
        for key in (*split.KEYS, "seed"):
            values = list(dict.fromkeys(run["params"].get(key) for run in runs))
            if len(runs) > most and len(values) > 1 and values[0] is not None:
                chosen[key] = values[0]
                runs = [run for run in runs if run["params"].get(key) == values[0]]
        return chosen

    @property
    def choices(self) -> dict[str, str]:
        """What the winner's runs chose, as params of a run that stands for all of them, and its λ's."""
        example = self.winner.runs_at(self.winner.min)[0]["params"]
        chosen = {key: example[key] for key in ("penalty", "model", "data") if key in example} | self.winner.params
        strengths = {f"{self.axis}.min": self.winner.min, f"{self.axis}.1se": self.winner.one_se}
        return chosen | {name: f"{value:.6g}" for name, value in strengths.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Everything but the table, as plain data; NaN is null."""

        def number(value: float | None) -> float | None:
            return None if value is None or not math.isfinite(value) else float(value)

        def chosen(setting: Setting) -> dict[str, float | None]:
            return {f"{self.axis}.min": number(setting.min), f"{self.axis}.1se": number(setting.one_se)}

        def at_one_se(setting: Setting) -> dict[str, float | bool | None]:
            at = setting.at_one_se
            if at is None:
                return {"mean_1se": None, "error_1se": None, "zeros_1se": None, "constant_1se": None}
            return {
                "mean_1se": number(at.mean),
                "error_1se": number(at.error),
                "zeros_1se": number(at.zeros),
                "constant_1se": at.constant,
            }

        return {
            "sentence": self.sentence,
            "metric": self.metric,
            "larger_is_better": self.larger_is_better,
            "axis": self.axis,
            "winner": self.winner.label,
            **chosen(self.winner),
            "settings": [
                {
                    "setting": setting.label,
                    "params": setting.params,
                    **chosen(setting),
                    "mean": number(setting.mean),
                    "error": number(setting.error),
                    "zeros": number(setting.zeros),
                    "constant": setting.constant,
                    **at_one_se(setting),
                    "vanishing": setting.vanishing,
                    "values": setting.values,
                    "splits": setting.splits,
                    "edge": setting.edge,
                }
                for setting in self.settings
            ],
            "comparisons": [
                {
                    "winner": each.winner,
                    "other": each.other,
                    "difference": number(each.difference),
                    "half_width": number(each.half_width),
                    "splits": each.splits,
                    "beats": each.beats,
                    "sentence": each.sentence,
                }
                for each in self.comparisons
            ],
            "warnings": list(self.warnings),
            "notes": [*self.notes, *self.about_error],
            "refit": self.refit and {self.axis: self.refit.value, "zeros": number(self.refit.zeros)},
            "runs": self.runs,
            "left_out": list(self.left_out),
        }


def symbol(axis: str) -> str:
    """Write an axis as it is said: λ, or the key of a number of the penalty."""
    return "λ" if axis == "lambd" else axis


def short(value: float) -> str:
    """Write a number with four digits."""
    return f"{value:.4g}"


def number(value: float | None, style: str = ".4g") -> str:
    """Write a number; nothing if it is not known."""
    return "" if value is None or math.isnan(value) else f"{value:{style}}"


def percent(share: float | None, style: str = ".0f") -> str:
    """Write a share in percent; nothing if it is not known."""
    return "" if share is None or math.isnan(share) else f"{100 * share:{style}} %"


def distance(above: float) -> str:
    """Write how far above its optimum something is, as a share of it; nothing if it is not known.

    What rounding alone makes of an optimum is 0, and what is far from it has no digits that mean anything.
    """
    if math.isnan(above):
        return ""
    if above <= SAME:
        return "0 %"
    return "> 1,000 %" if above > 10 else f"{100 * above:.0f} %" if above >= 1 else f"{100 * above:.2g} %"


def error_of(mean: float, error: float) -> str:
    """Write the error of a mean with two digits; 0 where it is rounding's, and nothing if it is not known."""
    return "0" if error <= ROUNDING * abs(mean) else number(error, ".2g")


def plus_minus(mean: float, error: float) -> str:
    """Write a mean and its error, as in "0.251 ± 0.014": the error with two digits, or the mean alone with four."""
    if not math.isfinite(error):
        return f"{mean:.4g}"
    if error <= ROUNDING * abs(mean):
        return f"{mean:.4g} ± 0"
    digits = 1 - math.floor(math.log10(error))
    if 0 <= digits <= 6 and abs(mean) < 1e6:
        written = f"{mean:.{digits}f}"
        return f"{written if float(written) else 0} ± {error:.{digits}f}"
    return f"{mean:.4g} ± {error:.2g}"


def listed(names: Sequence[str]) -> str:
    """List names as in "a, b and c"; of many the first, and how many more there are."""
    if len(names) > NAMES:
        return f"{', '.join(names[:NAMES])} and {len(names) - NAMES} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
