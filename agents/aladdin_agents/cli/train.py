"""``aladdin train``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aladdin_agents.cli.options import RayOption
from aladdin_env.cli.output import say_if_compiling, stdout
from aladdin_env.errors import InputError

if TYPE_CHECKING:
    from aladdin_agents.learned.train.keeper import Outcome

#: How to mend that the libraries of learners are missing.
NO_LEARNERS = "training takes torch and Stable-Baselines3: pip install 'aladdin-env[rl]'"


def train(
    config: Annotated[Path, typer.Argument(help="What to train: a TOML file (docs/training.md).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default runs/ and the name of the file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder.")] = False,
    seed: Annotated[int | None, typer.Option(help="In place of the file's seed.")] = None,
    ray: RayOption = None,
) -> None:
    """Train a policy: imitate an expert, or begin as one, go on by PPO with the objective as a constraint; or search.

    What validates best is kept.

    TensorBoard: tensorboard --logdir FOLDER. Ctrl-C saves and stops; --resume goes on.
    """
    from aladdin_agents.learned.train.config import read_config

    read = read_config(config).with_seed(seed)
    folder = out if out is not None else Path("runs") / config.stem
    try:
        run = _runner(ray)
    except ModuleNotFoundError as error:
        raise InputError("aladdin train", f"no module {error.name}", NO_LEARNERS) from None
    say_if_compiling()
    outcome = run(read, folder, resume=resume, command=_command(config, seed))
    stdout().print(told(outcome, "episodes" if read.network.kind == "steered" else "decisions"))


def _runner(ray: str | None) -> Callable[..., Outcome]:
    """What trains, here or on a cluster."""
    if ray is None:
        from aladdin_agents.learned.train.run import train as run

        return run
    from aladdin_agents.scale_out.remote import train_on

    return partial(train_on, ray)


def told(outcome: Outcome, what: str = "decisions") -> str:
    """How a run ended after so many decisions, or episodes, in a line."""
    found = f"{outcome.best}: {outcome.attainment:.2%} within their objectives on validation"
    if outcome.cost_ratio != 1.0:
        found += f", cost {outcome.cost_ratio:.3f} of the expert's"
    found += f"; score {outcome.score:.4f}, the expert's {outcome.expert:.4f}"
    return f"{found}; {outcome.steps:,} {what}"


def _command(config: Path, seed: int | None) -> str:
    """What makes the checkpoint again."""
    return shlex.join(["aladdin", "train", str(config), *(["--seed", str(seed)] if seed is not None else [])])
