"""What train.py and the command `shrinkage` do: Hydra composes a config, and its run or its study is made."""

import sys

import hydra
from omegaconf import DictConfig

from shrinkage.boundary import told_without_secrets
from shrinkage.fit import fit
from shrinkage.help import check_settings, show_help
from shrinkage.machine.output import print_what_can_be_printed
from shrinkage.overrides import check_typed
from shrinkage.study import study


def run(cfg: DictConfig) -> float | None:
    """Make one run or one study of a composed config; returns the metric that a sweep chooses by."""
    return fit(cfg) if cfg.study is None else study(cfg)


def main(config_path: str = "pkg://shrinkage.conf", config_name: str = "train") -> None:
    """Do what the command line says.

    config_path: the folder of the config, absolute or as `hydra.main` has it. config_name: the config, without .yaml.
    """
    print_what_can_be_printed()
    with told_without_secrets(sys.argv[1:]):
        check_typed(sys.argv[1:])
        if not show_help(sys.argv[1:], config_path, config_name):
            check_settings(sys.argv[1:], config_path, config_name)
            hydra.main(version_base="1.3", config_path=config_path, config_name=config_name)(run)()
