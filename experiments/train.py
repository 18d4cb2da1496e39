"""``python -m experiments.train CONFIG.toml [--out DIR] [--resume] [--seed N]``: the same as ``aladdin train``."""

import sys

from aladdin_env.cli.app import app

if __name__ == "__main__":
    app(["train", *sys.argv[1:]], prog_name="python -m experiments.train")
