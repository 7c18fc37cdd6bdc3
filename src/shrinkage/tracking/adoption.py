"""Whether a run records into the one that `MLFLOW_RUN_ID` names, or becomes a run of its own.

`mlflow run` makes a run, writes the declared parameters on it, and starts the command with its id in `MLFLOW_RUN_ID`.
The command's record belongs on that run, which is *adopted*. A run that has ended, or that holds what somebody else has
logged, is left as it is.

The question is asked when training begins, and the answer stands in the journal's header; whoever delivers the journal
follows it. Where the store could not be asked, the delivery asks.
"""

from collections.abc import Mapping

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from shrinkage.errors import StoreRefuses
from shrinkage.machine.secrets import masked, masked_values

from .answers import asking
from .store import JOURNAL

MLFLOWS_OWN = ("mlflow.", "system/")  # how the names begin of tags that MLflow sets, and of metrics of the machine
ENTRY_POINT = "mlflow.project.entryPoint"  # the tag that only runs of `mlflow run` have
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the second where it is no run's id at all


def refuse_at_start(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> str | None:
    """Say why a run that begins now, with these params, must not record into another one; None if it may.

    Raises StoreAway where the store does not answer.
    """
    run = look_up(client, run_id)
    objection = run if isinstance(run, str) else has_ended(run) or is_taken(run, None) or holds_more(run, params)
    return None if objection is None else sentence(run_id, objection)


def adopt(client: MlflowClient, run_id: str, journal: str, params: Mapping[str, str] | None) -> Run | str:
    """Claim a run for the journal of this id; returns the run, or in words why the journal becomes a run of its own.

    params: those that the journal's run began with where nothing was decided then, else None. May be done again.
    """
    run = look_up(client, run_id)  # whatever its status: `mlflow run` ends its run when the command's process ends
    if isinstance(run, str):
        return sentence(run_id, run)
    objection = is_taken(run, journal)
    if objection is None and params is not None and owner(run) != journal:
        objection = holds_more(run, params)
    if objection is None:
        objection = claim(client, run_id, journal)
    return run if objection is None else sentence(run_id, objection)


def sentence(run_id: str, objection: str) -> str:
    """Say why a run is not adopted, for a note and for the tag `shrinkage.not_adopted`."""
    return masked(f"MLFLOW_RUN_ID={run_id}: {objection}; so this is a run of its own")


def look_up(client: MlflowClient, run_id: str) -> Run | str:
    """Read the run of this id; or say why it cannot be had."""
    try:
        with asking():
            return client.get_run(run_id)
    except StoreRefuses as refusal:
        if refusal.code in NOT_THERE:
            return "there is no such run in this store"
        return f"the store does not let you use that run ({refusal.code})"


def claim(client: MlflowClient, run_id: str, journal: str) -> str | None:
    """Claim the run for this journal; say why that is refused, None if it is not.

    The claim is a param. MLflow never changes a param's value, so of two journals that claim a run at the same moment
    one is refused. A tag could be overwritten.
    """
    try:
        with asking():
            client.log_param(run_id, JOURNAL, journal, synchronous=True)
    except StoreRefuses as refusal:
        run = look_up(client, run_id)
        objection = run if isinstance(run, str) else is_taken(run, journal)
        return objection or f"that run cannot be written to ({refusal.code})"
    return None


def owner(run: Run) -> str | None:
    """Find the id of the journal whose run it is; None for a run of somebody else's."""
    return run.data.params.get(JOURNAL) or run.data.tags.get(JOURNAL)


def has_ended(run: Run) -> str | None:
    """Say that a run has ended; None where it has not."""
    status = run.info.status
    return f"that run has ended ({status})" if status in ("FINISHED", "FAILED", "KILLED") else None


def is_taken(run: Run, journal: str | None) -> str | None:
    """Say that a run is deleted, or another journal's; None where it is free."""
    if run.info.lifecycle_stage == "deleted":
        return "that run was deleted"
    return "another run records there" if owner(run) not in (None, journal) else None


def holds_more(run: Run, params: Mapping[str, str]) -> str | None:
    """Say what a run holds besides what MLflow itself puts there; None if there is nothing else.

    The parameters that `mlflow run` declares are MLflow's. But they may not contradict our params, because MLflow would
    keep the earlier value.
    """
    data = run.data
    declared = masked_values(data.params) if ENTRY_POINT in data.tags else {}
    inputs, outputs = run.inputs, run.outputs
    found = {
        "metrics": [name for name in data.metrics if not name.startswith(MLFLOWS_OWN)],
        "params": [name for name in data.params if name not in declared],
        "tags": [name for name in data.tags if not name.startswith(MLFLOWS_OWN)],
        "data sets": [each.dataset.name for each in inputs.dataset_inputs] if inputs else [],
        "models": [each.model_id for each in outputs.model_outputs] if outputs else [],
    }
    for what, names in found.items():
        if names:
            return f"that run has {what} already ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
    for name, value in declared.items():
        if name in params and not is_same(value, params[name]):
            return f"that run says {name}={value}, and this one has {params[name]}"
    return None


def is_same(one: str, other: str) -> bool:
    """Tell whether two texts of a param mean one value: `3` is `3.0`, and `true` is `True`."""
    try:
        return float(one) == float(other)
    except ValueError:
        return "".join(one.split()).casefold() == "".join(other.split()).casefold()
