"""What a config must be before anything is trained or recorded: a table of rules, and no key that nothing reads.

Light on purpose: a typo is answered before PyTorch is imported. A class checks its own arguments when it is built.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shrinkage.checks import Boolean, Holds, Number, OneOf, Rule, Text, Whole, is_number
from shrinkage.checks import check as check_value
from shrinkage.config import BUILT, GROUPS, as_dict, is_exact, is_of_steps, value_at
from shrinkage.errors import InputError

A_NAME = "must be a name, in quotes where it is a number"
A_RUN = Text("must name a run or sweep by its id, its name or its folder", or_null=True, or_number=True)

# The keys that shrinkage reads itself: the rule of each value, and what to type instead. A key that has no row here,
# and is no setting of a class that the config names, is read by nobody.
OWN: dict[str, tuple[Rule, str]] = {
    "lambd": (Number("λ must be ≥ 0", least=0), "use penalty=none for no penalty"),
    "seed": (Whole(0), "use seed=0"),
    "threads": (Whole(1, most=1024, or_null=True), "use threads=null to have it chosen"),
    "progress": (Boolean(), "use progress=true or progress=false"),
    "certificate": (OneOf("end", "epoch", "exact"), "use certificate=end"),
    "polish": (Whole(0), "use polish=20, or polish=0 for none"),
    "dynamics": (OneOf(True, False, "auto"), "use dynamics=auto"),
    "early_stopping.patience": (Whole(1, or_null=True), "use early_stopping.patience=null for none"),
    "early_stopping.min_delta": (Number("a change must be ≥ 0", least=0), "use early_stopping.min_delta=0"),
    "metric": (Text(A_NAME), "use metric=val/loss"),
    "refit": (
        OneOf(None, "min", "1se", words="must be min (the λ of the smallest mean) or 1se"),
        "use refit=null for none",
    ),
    "export": (
        Text(
            "a model has a name, with no / and no : in it",
            re.compile(r"\s*[^/:\s][^/:]*"),
            or_null=True,
            or_number=True,
        ),
        "use export=houses",
    ),
    "resume": (A_RUN, "use resume=null to begin a run"),
    "rerun": (A_RUN, "use rerun=null to begin a run"),
    "resume_sweep": (A_RUN, "use resume_sweep=null to begin a sweep"),
    "skip_finished": (Boolean(), "use skip_finished=true or skip_finished=false"),
    "on_error": (OneOf("continue", "stop"), "use on_error=continue"),
    "trainer.devices": (
        Holds("must be how many devices a run is trained on", lambda devices: is_count(devices) or is_listing(devices)),
        "use trainer.devices=1, or [0] for the first GPU",
    ),
    "trainer.max_epochs": (Whole(1, or_null=True), "use trainer.max_epochs=10"),
    "trainer.max_steps": (Whole(-1), "use trainer.max_steps=-1 to count epochs"),
    "trainer.accelerator": (Text("must be one of Lightning's names"), "use trainer.accelerator=cpu"),
    "trainer.precision": (Text("must be one of Lightning's names", or_number=True), "use trainer.precision=32-true"),
    "trainer.gradient_clip_val": (Number("must be > 0", above=0, or_null=True), "use trainer.gradient_clip_val=1"),
    "trainer.gradient_clip_algorithm": (
        OneOf(None, "norm", "value", words="must be norm or value"),
        "use null for norm",
    ),
    "trainer.until_gap": (Number("a gap must be > 0", above=0, or_null=True), "use trainer.until_gap=1e-6"),
    "tracking.enabled": (Boolean(), "use tracking=mlflow or tracking=none"),
    "tracking.uri": (Text("must be a store's address", or_null=True), "use tracking.uri=null for mlflow.db here"),
    "tracking.experiment": (Text(A_NAME), "use tracking.experiment=shrinkage"),
    "tracking.offline": (OneOf(True, False, "auto"), "use tracking.offline=auto"),
    "tracking.history": (OneOf("thin", "all"), "use tracking.history=all for every epoch"),
    "tracking.checkpoints": (OneOf("all", "best", "none"), "use tracking.checkpoints=all"),
    "tracking.jobs": (OneOf("runs", "table"), "use tracking.jobs=runs"),
}

# Settings of the classes in conf/ that are checked before these are imported.
OF_CLASSES: dict[str, tuple[Rule, str]] = {
    "data.seed": (Whole(0, most=2**32 - 1), "use data.seed=0"),
    "optimizer.lr": (Number("a learning rate must be > 0", above=0), "use optimizer.lr=0.01"),
    "optimizer.momentum": (Number("must be 0 ≤ μ < 1", least=0, below=1), "use optimizer.momentum=0.9"),
    "optimizer.betas": (
        Holds(
            "must be two numbers, 0 ≤ β < 1",
            lambda it: isinstance(it, list) and len(it) == 2 and all(is_number(beta) and 0 <= beta < 1 for beta in it),
        ),
        "use optimizer.betas=[0.9,0.999]",
    ),
    "optimizer.eps": (Number("must be ≥ 0", least=0), "use optimizer.eps=1e-8"),
    "trainer.gap": (Number("a gap must be > 0", above=0), "use trainer.gap=1e-6"),
    "trainer.accumulate_grad_batches": (Whole(1), "use trainer.accumulate_grad_batches=2"),
    "trainer.limit_train_batches": (Whole(1), "use trainer.limit_train_batches=10 for so many batches an epoch"),
    "trainer.min_epochs": (Whole(1, or_null=True), "use trainer.min_epochs=5"),
    "trainer.min_steps": (Whole(1, or_null=True), "use trainer.min_steps=100"),
    "trainer.deterministic": (OneOf(True, False, "warn"), "use trainer.deterministic=true"),
    "trainer.benchmark": (Boolean(), "use trainer.benchmark=true"),
    "trainer.detect_anomaly": (Boolean(), "use trainer.detect_anomaly=true"),
    "trainer.profiler": (OneOf(None, "simple", "advanced"), "use trainer.profiler=simple"),
}

EVALUATES = "each part is evaluated whole, before the first epoch and after every one", "leave it out"
OWN_CALLBACKS = "a run has callbacks of its own, and takes no others", "leave it out"
# Arguments of Lightning's Trainer that change nothing here, or cannot be left to a person: why, and what to type.
NOT_TAKEN: dict[str, tuple[str, str]] = {
    "barebones": ("it turns off what a run records", "use tracking=none progress=false"),
    "callbacks": OWN_CALLBACKS,
    "check_val_every_n_epoch": EVALUATES,
    "default_root_dir": ("a run has a folder of its own", "use hydra.run.dir=…"),
    "enable_autolog_hparams": ("every value of the config is recorded", "leave it out"),
    "enable_checkpointing": ("every run keeps its last and its best weights", "leave it out"),
    "enable_model_summary": ("no summary is shown", "leave it out"),
    "enable_progress_bar": ("the bar has a key of its own", "use progress=true or progress=false"),
    "fast_dev_run": ("it would train less than the config says", "use trainer.max_steps=1"),
    "inference_mode": EVALUATES,
    "limit_predict_batches": ("nothing is predicted by Lightning", "leave it out"),
    "limit_test_batches": EVALUATES,
    "limit_val_batches": EVALUATES,
    "log_every_n_steps": ("metrics are logged after every epoch", "leave it out"),
    "logger": ("runs are recorded by the tracking group", "use tracking=mlflow or tracking=none"),
    "model_registry": ("a model is registered by its name", "use export=NAME"),
    "num_nodes": ("a run is trained on one machine", "use trainer.devices=2 for several devices of it"),
    "num_sanity_val_steps": EVALUATES,
    "overfit_batches": (
        "the parts of the data stay what they are",
        "use trainer.limit_train_batches=10 for so many batches an epoch",
    ),
    "plugins": OWN_CALLBACKS,
    "reload_dataloaders_every_n_epochs": ("the rows are the same in every epoch", "leave it out"),
    "strategy": ("a run on several devices is trained by DDP", "use trainer.devices=2"),
    "sync_batchnorm": ("it needs several GPUs, and is not offered", "leave it out"),
    "use_distributed_sampler": ("each device has its share of every batch", "leave it out"),
    "val_check_interval": EVALUATES,
}

SECTIONS = tuple(dict.fromkeys([*BUILT, "metrics", "choices", *(key.split(".")[0] for key in OWN if "." in key)]))
A_TAG = re.compile(r"[\w /:-]{1,250}")  # of a person's own; the project's have a dot in their names, but for these
OUR_TAGS = ("error", "folder", "kind", "overrides")


def complete(cfg: DictConfig) -> dict[str, Any]:
    """Resolve the config's interpolations, and look whether it has every section and value that a run needs.

    Raises InputError if an interpolation leads nowhere, or something is missing.
    """
    try:
        tree = as_dict(cfg, throw_on_missing=True)
    except OmegaConfBaseException as error:
        words = " ".join(str(error).split())
        if found := re.search(r"Environment variable '(\w+)' not found.* full_key: (\S+)", words):
            variable, key = found.groups()
            raise InputError(f"{key}: it is read from {variable}, which is not set; export {variable}=…") from None
        raise InputError(f"the config has a value that leads nowhere: {words}") from None
    for key in SECTIONS:
        if not isinstance(tree.get(key), dict):
            raise InputError(
                f"{key}={tree.get(key)}: the config needs the settings of this name; leave them as they are"
            )
    for key in BUILT:
        if not isinstance(target := tree[key].get("_target_"), str):
            raise InputError(f"{key}._target_={target}: must name a class; leave it as conf/{key} has it")
    for key in (*OWN, "study", "tags"):
        if value_at(tree, key, ...) is ...:
            raise InputError(f"{key} is missing: the config needs a value of this name; leave it as it is")
    study = tree["study"]
    if study is not None and not (names_a_class(study) and "." in str(study["_target_"])):
        raise InputError(f"study={study}: the experiments set it; use experiment=… or study=null")
    return tree


def check(cfg: DictConfig) -> None:
    """Check that nothing is missing, and every value that has a rule. Raises InputError for the first that is bad."""
    check_values(complete(cfg))


def check_values(tree: Mapping[str, Any]) -> None:
    """Check every value of a complete config that has a rule. Raises InputError for the first that no run can use."""
    exact = is_exact(tree)
    for key, (rule, way_out) in (OWN | OF_CLASSES).items():
        if (value := value_at(tree, key, ...)) is not ... and not (exact and is_of_steps(key)):
            check_value(key, value, rule, way_out)
    check_tags(tree)
    if exact:
        check_exact(tree)
    else:
        check_trainer(tree["trainer"], tree["early_stopping"])


def check_exact(cfg: Mapping[str, Any]) -> None:
    """Check what a config asks of an exact engine. Raises InputError for what only steps could do."""
    for key, only in {"trainer.max_epochs": 0, "trainer.max_steps": -1, "trainer.devices": 1}.items():
        if (value := value_at(cfg, key)) != only:
            raise InputError(
                f"{key}={value}: trainer.gap belongs to trainer=exact, which solves a problem in one process and takes "
                f"no steps; leave {key} out, or use trainer=cpu without trainer.gap"
            )


def check_overrides(cfg: Mapping[str, Any], overrides: Iterable[str]) -> None:
    """Refuse an override that only a training by steps would read. Raises InputError for the first under trainer=exact.

    overrides: as they were typed.
    """
    for override in overrides if is_exact(cfg) else ():
        key = override.partition("=")[0].lstrip("+~")
        if is_of_steps(key):
            raise InputError(
                f"{override}: trainer=exact solves the problem and takes no steps, so it would change nothing; leave "
                f"it out, or train by steps with trainer=cpu"
            )


def check_trainer(trainer: Mapping[str, Any], early_stopping: Mapping[str, Any]) -> None:
    """Check what holds between the trainer's values. Raises InputError."""
    devices, accelerator, cores = trainer["devices"], trainer.get("accelerator"), os.cpu_count() or 1
    if is_listing(devices) and accelerator in ("cpu", "auto"):
        raise InputError(f"trainer.devices={devices}: only GPUs have numbers; use trainer.devices={len(devices)}")
    if is_count(devices) and accelerator == "cpu" and devices > cores:
        raise InputError(
            f"trainer.devices={devices}: each of so many processes takes a core, and this machine has {cores}; use "
            f"trainer.devices={cores}"
        )
    if trainer["max_steps"] == 0:
        raise InputError("trainer.max_steps=0: a run must take a step; use trainer.max_steps=-1 to count epochs")
    some = Whole(1, or_null=trainer["max_steps"] > 0)
    check_value("trainer.max_epochs", trainer["max_epochs"], some, "use trainer.max_epochs=10")
    for key in ("min_epochs", "min_steps"):
        may_end_early = early_stopping["patience"] is not None or trainer["until_gap"] is not None
        if trainer.get(key) is not None and not may_end_early:
            raise InputError(
                f"trainer.{key}={trainer[key]}: nothing ends this run before trainer.max_epochs or max_steps; use "
                f"early_stopping.patience=10 as well, or leave trainer.{key} out"
            )


def is_count(devices: object) -> bool:
    """Whether a value says how many devices."""
    return type(devices) is int and devices >= 1


def is_listing(devices: object) -> bool:
    """Whether a value lists devices by their numbers."""
    return isinstance(devices, list) and bool(devices) and all(type(each) is int and each >= 0 for each in devices)


def check_tags(cfg: Mapping[str, Any]) -> None:
    """Check a person's own words for a run. Raises InputError for a name or a value that no tag can have."""
    tags = cfg["tags"]
    if not isinstance(tags, Mapping | None):
        raise InputError(f"tags={tags}: must be words and what they say; use 'tags={{team: vision}}'")
    for name, value in (tags or {}).items():
        if not A_TAG.fullmatch(str(name)) or name in OUR_TAGS:
            raise InputError(
                f"tags={{{name}: {value}}}: a tag of your own is a word without a dot, and none of "
                f"{', '.join(OUR_TAGS)}; use 'tags={{team: vision}}'"
            )
        if not isinstance(value, str | int | float):
            raise InputError(
                f"tags={{{name}: {value}}}: a tag has one value, text or a number; use 'tags={{{name}: vision}}'"
            )


def check_keys(cfg: DictConfig) -> None:
    """Refuse a key that nothing reads: it would be recorded, and change nothing.

    cfg: as composed, with its interpolations, which may read a key, as those of Hydra's own part may. A setting of a
    class is known by the class, which is not imported here. Raises InputError for the first key that nothing reads.
    """
    ignored = list(unread(cfg))
    hydra = HydraConfig.get() if HydraConfig.initialized() else OmegaConf.create()
    read = set[str]().union(*(interpolated(part) for part in (cfg, hydra) if ignored))
    for key, node in ignored:
        if not any(key == word or key.startswith(f"{word}.") or key.endswith(f".{word}") for word in read):
            shown = f"={node}" if not isinstance(node, dict) else ""
            raise InputError(
                f"{key}{shown}: nothing reads this key, so it would change nothing; leave it out, or record words of "
                f"your own with 'tags={{{key.rpartition('.')[2]}: …}}'"
            )
    for name, (why, way_out) in NOT_TAKEN.items():
        if name in cfg.trainer:
            raise InputError(f"trainer.{name}={as_dict(cfg.trainer, resolve=False)[name]}: {why}; {way_out}")


def unread(cfg: DictConfig) -> Iterator[tuple[str, object]]:
    """The keys that are neither of OWN nor settings of a class that the config names."""
    tree = as_dict(cfg, resolve=False)
    for key, node in tree.items():
        if key in (*BUILT, "study", "tags", *OWN):
            continue
        if key == "metrics":
            yield from ((f"{key}.{name}", each) for name, each in node.items() if not names_a_class(each))
        elif key in SECTIONS:
            known = {*OWN, *(f"choices.{group}" for group in GROUPS)}
            yield from ((f"{key}.{name}", each) for name, each in node.items() if f"{key}.{name}" not in known)
        else:
            yield key, node


def names_a_class(node: object) -> bool:
    """Whether a node of the config is to be built."""
    return isinstance(node, Mapping) and "_target_" in node


def interpolated(cfg: object) -> set[str]:
    """The dotted words that stand in the config's interpolations; of relative ones without the dots before them."""
    without_resolvers = re.sub(r"\$\{[\w.]+:", "${", OmegaConf.to_yaml(cfg))
    found = re.findall(r"\$\{(.*)\}", without_resolvers)
    return {word.strip(".") for text in found for word in re.findall(r"[\w.]+", text)}
