"""An offline data set of Aladdin's placements: written with Minari, read back, and imitated.

``python examples/minari_dataset.py FOLDER [--episodes N]`` keeps everything in FOLDER. Whoever reads it elsewhere sets
``MINARI_DATASETS_PATH`` to that folder, imports ``aladdin_env`` and calls ``minari.load_dataset(NAME)``.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import torch
from minari.data_collector import EpisodeBuffer
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from aladdin_agents.learned.networks import EquivariantNet
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train.experts import Experts
from aladdin_env import SLO, Fleet, Scenario, WorkerType, Workload
from aladdin_env.features import WORKER_FEATURES
from aladdin_env.policy import make_policy
from aladdin_env.scenario_file import write_scenario
from aladdin_traces import LENGTHS, Poisson

NAME = "aladdin/two-types-v0"
TYPES = tuple(WorkerType(gpu, f"llama-3.1-8b-{gpu}-tp1", initial=2, minimum=2, maximum=2) for gpu in ("h100", "a100"))
LOAD = Workload.generated(Poisson(20.0), LENGTHS["azure-code"])
SCENARIO = Scenario("two-types", LOAD, Fleet(TYPES), SLO(ttft_s=0.5, atgt_s=0.03), horizon_s=10.0)

Examples = tuple[dict[str, torch.Tensor], torch.Tensor]


def played(env: gym.Env, expert: Experts, seed: int) -> EpisodeBuffer:
    """An episode of the expert, one observation longer than its actions."""
    observation, _ = env.reset(seed=seed)
    expert.begin(0)
    observations, actions, rewards, ended = [observation], [], [], False
    while not ended:
        actions.append(expert.actions()[0])
        observation, reward, ended, _, _ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
    return EpisodeBuffer(
        seed=seed,
        observations={key: np.stack([each[key] for each in observations]) for key in observation},
        actions=actions,
        rewards=rewards,
        terminations=[False] * (len(actions) - 1) + [True],
        truncations=[False] * len(actions),
    )


def write(folder: Path, episodes: int) -> None:
    """Play and store ``episodes`` of them.

    Minari keeps what an environment was made with as JSON: hence the scenario as a file beside the data. Its wrapper
    ``DataCollector`` would do the bookkeeping of :func:`played`, but needs JAX; Arrow needs nothing that is not here.
    """
    write_scenario(SCENARIO, folder / "two-types.toml")
    env = gym.make("aladdin_env:aladdin/Placement-v0", scenario=str(folder / "two-types.toml"), allow_hold=True)
    expert = Experts(env.unwrapped.engine, partial(make_policy, "aladdin"))
    # It asks for an author, an address and a link to the code: whoever publishes a data set should give them.
    warnings.filterwarnings("ignore", "`(author|author_email|code_permalink)` is set to None")
    minari.create_dataset_from_buffers(
        NAME,
        [played(env, expert, seed) for seed in range(episodes)],
        env=env,
        eval_env=env,
        data_format="arrow",
        algorithm_name="aladdin",
        description="Requests with prompts of very unequal length on two fast and two slow workers, placed by Aladdin.",
        requirements=["aladdin-env"],
    )


def examples_of(episodes: Sequence[minari.EpisodeData]) -> Examples:
    """The observations before each action, and the actions (n,)."""
    keys = episodes[0].observations
    before: dict[str, NDArray[Any]] = {k: np.concatenate([e.observations[k][:-1] for e in episodes]) for k in keys}
    actions = torch.from_numpy(np.concatenate([e.actions for e in episodes]))
    return {key: torch.from_numpy(array) for key, array in before.items()}, actions


def logits(net: EquivariantNet, observations: dict[str, torch.Tensor]) -> torch.Tensor:
    """(n, actions), very small where the mask forbids."""
    workers = observations["workers"].unflatten(1, (-1, len(WORKER_FEATURES)))
    found, _ = net(workers, observations["request"], observations["cluster"])
    return found.masked_fill(observations["mask"] == 0, -1e9)


def cloned(observations: dict[str, torch.Tensor], actions: torch.Tensor, steps: int = 300) -> EquivariantNet:
    """A small network that does what the data do."""
    torch.manual_seed(0)
    net = EquivariantNet(Shape(types=2, places=True, scales=False, holds=True))
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(steps):
        some = torch.randint(len(actions), (256,))
        loss = cross_entropy(logits(net, {key: rows[some] for key, rows in observations.items()}), actions[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


def main() -> None:
    """Write, read back, imitate."""
    parser = argparse.ArgumentParser(description="Write an offline data set, read it back, and imitate it.")
    parser.add_argument("folder", type=Path, help="where the data set goes")
    parser.add_argument("--episodes", type=int, default=20, help="2 or more; the last fifth is kept to judge")
    given = parser.parse_args()
    folder, episodes = given.folder.resolve(), given.episodes
    if episodes < 2:
        parser.error("--episodes: give 2 or more")
    if (folder / NAME).exists():
        parser.error(f"{folder} has a data set {NAME}: give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["MINARI_DATASETS_PATH"] = str(folder)  # without it Minari writes into the home directory
    torch.set_num_threads(1)

    write(folder, episodes)
    data = minari.load_dataset(NAME)
    print(f"{data.total_episodes} episodes, {data.total_steps} steps in {folder / NAME}")
    read = list(data.iterate_episodes())
    print(f"mean return {np.mean([episode.rewards.sum() for episode in read]):.3f}")
    kept = max(1, episodes // 5)
    observations, actions = examples_of(read[-kept:])
    net = cloned(*examples_of(read[:-kept]))
    with torch.no_grad():
        same = logits(net, observations).argmax(1) == actions
    share = torch.bincount(actions).max() / len(actions)
    print(f"imitated in {same.double().mean():.1%} of {len(same)} steps not trained on (commonest action: {share:.1%})")


if __name__ == "__main__":
    main()
