"""PPO in one short file, in the manner of CleanRL: torch, action masks, and the native vector environment.

Two fast and two slow workers serve prompts of very unequal length. ``python examples/cleanrl_ppo.py [PLACEMENTS]``
prints the mean return of an episode, which is minus the objectives missed, before and after training.
"""

import sys

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from aladdin_env import SLO, Fleet, Scenario, WorkerType, Workload
from aladdin_env.scenario import RewardWeights
from aladdin_traces import LENGTHS, Poisson

TYPES = tuple(WorkerType(gpu, f"llama-3.1-8b-{gpu}-tp1", initial=2, minimum=2, maximum=2) for gpu in ("h100", "a100"))
LOAD, MISSES = Workload.generated(Poisson(20.0), LENGTHS["azure-code"]), RewardWeights(0.0, 1.0, 1.0, 1.0)
SCENARIO = Scenario("two-types", LOAD, Fleet(TYPES), SLO(ttft_s=0.5, atgt_s=0.03), 10.0, reward=MISSES)
KEYS = ("workers", "request", "cluster", "mask")
ENVS, LENGTH, EPOCHS, BATCHES, RATE, CLIP, ENTROPY = 64, 128, 4, 4, 1e-3, 0.2, 0.01
# A late first token counts when it appears, ten or more decisions after the one that made it late, and later still
# behind a long queue. With a shorter sight than this, PPO learns to put the misses off: everything into one queue.
GAMMA, LAMBDA = 1.0, 0.99


class Agent(nn.Module):
    """Scores each worker for the request at hand; the value of a state is a sum over its workers."""

    def __init__(self, space: gym.spaces.Dict) -> None:
        super().__init__()
        workers, request, cluster, self.slots = (space[key].shape[0] for key in KEYS)
        self.parts = (workers, request + cluster, self.slots)
        n = workers // self.slots + request + cluster
        self.actor, self.critic = (
            nn.Sequential(nn.Linear(n, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)) for _ in (1, 2)
        )

    def forward(self, rows: Tensor) -> tuple[Categorical, Tensor]:
        """The distributions over the allowed workers, and the values (n,), of n observations."""
        workers, context, mask = rows.split(self.parts, dim=1)
        each = torch.cat((workers.unflatten(1, (self.slots, -1)), context[:, None].expand(-1, self.slots, -1)), dim=2)
        scores = self.actor(each)[:, :, 0].masked_fill(mask == 0, -1e9)
        return Categorical(logits=scores), self.critic(each).sum(dim=(1, 2))


def flat(observation: dict[str, np.ndarray]) -> Tensor:
    """One float32 row for each environment."""
    return torch.tensor(np.concatenate([observation[key] for key in KEYS], axis=1))


@torch.no_grad()
def mean_return(agent: Agent, envs: gym.vector.VectorEnv) -> float:
    """Over the first episode of every environment, always the same ones."""
    rows, total, over = flat(envs.reset(seed=1000)[0]), np.zeros(ENVS), np.zeros(ENVS, dtype=bool)
    while not over.all():
        observation, reward, ended, _, _ = envs.step(agent(rows)[0].sample().numpy())
        rows, total, over = flat(observation), total + reward * ~over, over | ended
    return float(total.mean())


@torch.no_grad()
def rollout(agent: Agent, envs: gym.vector.VectorEnv, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """LENGTH steps: the rows after them; and all rows, actions, log-probabilities, advantages and returns."""
    steps, (rewards, going, values, gains) = [], torch.zeros(4, LENGTH + 1, ENVS)
    for t in range(LENGTH):
        policy, values[t] = agent(rows)
        action = policy.sample()
        steps.append((rows, action, policy.log_prob(action)))
        observation, reward, ended, _, _ = envs.step(action.numpy())
        rows, rewards[t], going[t] = flat(observation), torch.tensor(reward), torch.tensor(~ended)
    values[LENGTH] = agent(rows)[1]
    for t in reversed(range(LENGTH)):  # generalised advantage estimation
        gains[t] = rewards[t] - values[t] + GAMMA * going[t] * (values[t + 1] + LAMBDA * gains[t + 1])
    batch = [torch.cat(parts) for parts in zip(*steps, strict=True)]
    return rows, [*batch, gains[:-1].flatten(), (gains + values)[:-1].flatten()]


def loss_of(agent: Agent, rows: Tensor, actions: Tensor, before: Tensor, gains: Tensor, returns: Tensor) -> Tensor:
    """The clipped surrogate, the error of the values, and a little entropy."""
    policy, values = agent(rows)
    ratio, gains = (policy.log_prob(actions) - before).exp(), (gains - gains.mean()) / (gains.std() + 1e-8)
    surrogate = torch.min(ratio * gains, ratio.clamp(1 - CLIP, 1 + CLIP) * gains)
    return (0.5 * (values - returns) ** 2 - surrogate - ENTROPY * policy.entropy()).mean()


def main(placements: int) -> None:
    """Train for so many placements, rounded up to whole batches."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    envs = gym.make_vec("aladdin_env:aladdin/Placement-v0", num_envs=ENVS, scenario=SCENARIO)
    agent = Agent(envs.single_observation_space)
    optimiser = torch.optim.Adam(agent.parameters(), RATE, eps=1e-5)
    print(f"return before: {mean_return(agent, envs):7.2f}")
    rows = flat(envs.reset(seed=0)[0])
    for _ in range(0, placements, ENVS * LENGTH):
        rows, batch = rollout(agent, envs, rows)
        for chosen in (part for _ in range(EPOCHS) for part in torch.randperm(ENVS * LENGTH).chunk(BATCHES)):
            optimiser.zero_grad()
            loss_of(agent, *(column[chosen] for column in batch)).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimiser.step()
    print(f"return after:  {mean_return(agent, envs):7.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
