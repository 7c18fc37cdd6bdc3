"""python train.py [group=choice …] [key=value …]    the same as shrinkage, with the config of conf/own.yaml"""

from pathlib import Path

from shrinkage.train import main

if __name__ == "__main__":
    main(str(Path(__file__).with_name("conf")), config_name="own")
