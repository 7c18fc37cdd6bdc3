"""The λ to take, by a call, as `experiment=choose` finds it by a command."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from shrinkage.data.quoting import hydras
from shrinkage.errors import InputError
from shrinkage.names import in_html
from shrinkage.overrides import check_overrides
from shrinkage.report.choice import choose as choose_by
from shrinkage.runs.identity import setting, without_sweep
from shrinkage.runs.membership import VARIABLE, Membership

from .fitted import Run, composed, fit
from .given import overrides_for

if TYPE_CHECKING:
    import pandas as pd

    from shrinkage.report.answer import Answer


class Choice:
    """Which penalty, how strong, as the folds say, and the model that was trained with it.

    answer: all that the runs say. folder: the sweep's, with report.html, runs.csv and answer.json. model: the winner
    trained once more, on training and validation rows, with the metrics of the test rows.
    """

    def __init__(self, answer: "Answer", folder: Path, model: Run) -> None:
        self.answer, self.folder, self.model = answer, folder, model

    @property
    def lambda_min(self) -> float:
        """The winner's λ of the best mean over the folds."""
        return self.answer.winner.min

    @property
    def lambda_1se(self) -> float | None:
        """Its largest λ whose mean is within one standard error of the best; None where no error is known."""
        return self.answer.winner.one_se

    @property
    def sentence(self) -> str:
        """The answer in a sentence."""
        return self.answer.sentence

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each penalty and λ: the mean over the folds, its standard error, and what else was measured."""
        return self.answer.table

    def __repr__(self) -> str:
        return f"<Choice: {self.sentence}>"

    def _repr_html_(self) -> str:
        """Show the report's page in a notebook, whose own style it leaves alone."""
        page = (self.folder / "report.html").read_text(encoding="utf-8")
        return f'<iframe srcdoc="{in_html(page)}" style="width: 100%; height: 40rem; border: 0"></iframe>'


def choose(
    data: Any,
    *overrides: str,
    target: str | Sequence[str] | None = None,
    folds: int = 5,
    refit: str = "1se",
) -> Choice:
    """Choose a penalty and its λ by cross-validation, and train with it, as `shrinkage experiment=choose` does.

        answer = shrinkage.choose(frame, target="price")
        answer.sentence, answer.lambda_1se, answer.model.predict(rows)

    data, target: as in `fit`. overrides: more of the command's, such as "penalty=l1" or "hydra.sweeper.num=50". refit:
    which λ the model is trained with, `min` or `1se`. The sweep runs in a process of its own, since it takes signals
    and ends its jobs with itself. Raises InputError for what cannot be done.
    """
    check_overrides(list(overrides))
    if refit not in ("min", "1se"):
        raise InputError(f"refit={refit!r}: must be min (the λ of the smallest mean) or 1se; use refit='1se'")
    if not isinstance(folds, int) or folds < 2:
        raise InputError(f"folds={folds!r}: must be a whole number, 2 or more; use folds=5")
    folder = Path.cwd() / "multirun" / f"{datetime.now():%Y-%m-%d}" / f"{datetime.now():%H-%M-%S-%f}"
    given = overrides_for(data, target)[1:]  # the experiment says data=table
    typed = ["experiment=choose", *given, f"data.folds={folds}"]
    composed([*typed, *(line for line in overrides if not is_list(line))])  # what is no choice is said here
    typed += [f"data.fold=range({folds})", *overrides, f"hydra.sweep.dir={hydras(str(folder))}"]
    done = subprocess.run(
        [sys.executable, "-m", "shrinkage", *typed],
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    said = [line.partition(": ")[2] for line in done.stderr.splitlines() if line.startswith(("shrinkage: ", "FAILED"))]
    if done.returncode or not (folder / "report.html").exists():
        raise InputError(
            said[0] if said else " ".join(done.stderr.split())[-500:] or f"{folder}: the sweep has no answer"
        )
    results = Membership.of(folder).results()
    answer = choose_by(results, setting(list(overrides)).get("metric", "val/loss").strip("'\""))
    chosen = answer.winner.runs_at(answer.winner.value_for(refit))[0]["folder"]
    (best,) = [result for result in results if result["folder"] == chosen]
    return Choice(answer, folder, fit(*without_sweep(best["overrides"]), "data.refit=true", "hydra.mode=RUN"))


def is_list(override: str) -> bool:
    """Tell whether an override lists values of a sweep."""
    return OverridesParser.create().parse_override(override).is_sweep_override()
