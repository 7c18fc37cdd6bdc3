"""python train.py [group=choice …] [key=value …]    train a penalised model and record the run; see --help"""

import sys

import hydra
from omegaconf import DictConfig

from shrinkage.fit import fit
from shrinkage.overrides import check_typed
from shrinkage.study import study


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    return fit(cfg) if cfg.study is None else study(cfg)


if __name__ == "__main__":
    check_typed(sys.argv[1:])
    main()
