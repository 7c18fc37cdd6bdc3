"""What to do after a sweep has answered: the one step that its answer lacks most, and the command for it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shrinkage import split
from shrinkage.tracking.source import RunSummary

from .answer import FAR, Answer
from .edges import next_grid
from .refit import is_refit
from .sentences import TO_THE_OPTIMUM

REGISTERED = "model.registered"  # the tag of a run whose model can be predicted with


@dataclass(frozen=True)
class Command:
    """A sweep's command. words: it and its overrides, as they are typed. folder: the sweep's, None where it is gone."""

    words: Sequence[str]
    folder: Path | None


@dataclass(frozen=True)
class NextStep:
    """What to do next. command: to be copied; it begins with "…" where the sweep's own command is not known."""

    why: str
    command: str


def next_step(answer: Answer, runs: Sequence[RunSummary], command: Command | None) -> NextStep:
    """Find what the answer lacks most: an optimum, a wider grid, an error, or a model of all rows."""
    winner = answer.winner
    example = winner.runs_at(winner.min)[0]["params"]
    rows = answer.table[answer.table["setting"] == winner.label]
    chosen = [f"{key}={value}" for key, value in winner.params.items()]
    if (rows["above"] > FAR).any():
        only = chosen if answer.table["above"].isna().any() else []  # the others have no optimum that is known
        return NextStep(
            "The winner's runs stopped above their optimum. Bring them there, and look again:",
            again(command, [*only, *TO_THE_OPTIMUM]),
        )
    if winner.edge is not None and answer.axis == "lambd":
        grid = next_grid(rows["lambd"].to_numpy(), winner.edge, rows["lambda_max"].max(skipna=False))
        return NextStep("The best λ ends the grid. Look beyond it:", again(command, [*chosen, *grid.split()]))
    if winner.at_one_se is None and answer.axis == "lambd":
        more = split.SWEEP_SEEDS if split.is_generated(example) else split.SWEEP_FOLDS
        return NextStep("One split says nothing of the error. Take several:", again(command, shlex.split(more)))
    models = [run["tags"][REGISTERED] for run in runs if is_refit(run) and REGISTERED in run["tags"]]
    if models:
        rows_of = f"{command.folder / 'refit' if command and command.folder else 'RUN'}/model/example.json"
        return NextStep(
            "The model is trained and registered. Predict with it:",
            f"mlflow models predict --env-manager local -m {models[-1]} -t json -i {shlex.quote(rows_of)}",
        )
    which = "min" if winner.at_one_se is None else "1se"
    if "data.refit" in example and answer.refit is None:
        known = [f"resume_sweep={command.folder}"] if command and command.folder else []
        return NextStep(
            "Train the model to keep, on training and validation rows, and test it once:",
            again(command, [f"refit={which}", *known]),
        )
    single = [*chosen, f"{answer.axis}={winner.value_for(which):g}", "hydra.mode=RUN"]
    return NextStep("Train one run with it:", again(command, single, without=(*split.KEYS, "hydra/launcher", "seed")))


def again(command: Command | None, overrides: Sequence[str], without: Sequence[str] = ()) -> str:
    """Write a command once more with other overrides, which take the place of its own of the same keys."""
    if command is None:
        return f"… {shlex.join(overrides)}"
    keys = {key_of(override) for override in overrides} | set(without)
    if "hydra/sweeper" in keys:
        keys.add("lambd")  # the path finds it
    flags = ("-m", "--multirun") if "hydra.mode" in keys else ()
    kept = [word for word in command.words if key_of(word) not in keys and word not in flags]
    return shlex.join([*kept, *overrides])


def key_of(word: str) -> str:
    """Read the key of an override; a word that is none is its own."""
    return word.lstrip("+~").partition("=")[0]
