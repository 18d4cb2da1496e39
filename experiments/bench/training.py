"""Placement steps per second in training: ``python -m experiments.bench.training``.

MaskablePPO on 64 environments of 16 workers under ShareGPT lengths: rollouts of 64 steps, minibatches of 1,024 (and of
4,096), 4 epochs, one torch thread. Counted are the steps of all environments over the seconds of CPU time of the whole
process, rollouts and updates together: on an idle core that is the time on the clock. Last, the policy that
Stable-Baselines3 brings for such observations.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from rich.table import Table
from sb3_contrib import MaskablePPO

from aladdin_agents.learned.sb3 import ClusterPolicy
from aladdin_agents.learned.shape import Shape
from aladdin_env.bench.worlds import bench_scenario
from aladdin_env.cli.output import stdout
from aladdin_env.envs import register_envs
from aladdin_env.envs.sb3 import SB3VecEnv

WORKERS, ENVS, STEPS, EPOCHS = 16, 64, 64, 4
REQUESTS = 5_000  # of an episode
WARM, ROLLOUTS = 2, 12

Options = dict[str, Any]
SUBJECTS: tuple[tuple[str, int, Options | None], ...] = (
    ("mlp, 64 wide", 1024, {"network": "mlp", "hidden": 64}),
    ("mlp, 64 wide", 4096, {"network": "mlp", "hidden": 64}),
    ("equivariant, 32 wide", 1024, {"network": "equivariant", "hidden": 32}),
    ("equivariant, 32 wide", 4096, {"network": "equivariant", "hidden": 32}),
    ("MultiInputPolicy of SB3", 1024, None),
)


def steps_per_s(batch: int, options: Options | None) -> float:
    """Steps per second of CPU time; ``options`` of :class:`ClusterPolicy`, None for SB3's own policy."""
    envs = SB3VecEnv.make("aladdin/Placement-v0", ENVS, seed=0, scenario=bench_scenario(WORKERS, "chunked", REQUESTS))
    policy: Any = "MultiInputPolicy" if options is None else ClusterPolicy
    kwargs = None if options is None else {**options, "shape": Shape(types=1, places=True, scales=False)}
    model = MaskablePPO(
        policy, envs, n_steps=STEPS, batch_size=batch, n_epochs=EPOCHS, seed=0, device="cpu", policy_kwargs=kwargs
    )
    model.learn(WARM * STEPS * ENVS)
    start = time.process_time()
    model.learn(ROLLOUTS * STEPS * ENVS, reset_num_timesteps=False)
    took_s = time.process_time() - start
    envs.close()
    return ROLLOUTS * STEPS * ENVS / took_s


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    register_envs()
    table = Table(title=f"placement steps/s in training, {WORKERS} workers")
    for heading in ("policy", "minibatch", "steps/s"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for name, batch, options in SUBJECTS:
        table.add_row(name, str(batch), f"{steps_per_s(batch, options):,.0f}")
    stdout().print(table)


if __name__ == "__main__":
    main()
