"""python train.py [group=choice …] [key=value …]    train a penalised model and record the run; see --help"""

from pathlib import Path

from shrinkage.train import main

if __name__ == "__main__":
    main(str(Path(__file__).with_name("conf")))
