"""PPO by Ray RLlib, with the network that knows no order of workers, and action masks.

Two fast and two slow workers serve prompts of very unequal length. ``python examples/rllib_ppo.py [ITERATIONS]`` prints
the mean return of the episodes of each iteration, which is minus the objectives missed.
"""

import sys

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from aladdin_agents.learned.shape import Shape
from aladdin_agents.scale_out.rllib import ClusterModule, register
from aladdin_env import SLO, Fleet, Scenario, WorkerType, Workload
from aladdin_env.envs.spaces import Task
from aladdin_env.scenario import RewardWeights
from aladdin_traces import LENGTHS, Poisson

TYPES = tuple(WorkerType(gpu, f"llama-3.1-8b-{gpu}-tp1", initial=2, minimum=2, maximum=2) for gpu in ("h100", "a100"))
LOAD, MISSES = Workload.generated(Poisson(20.0), LENGTHS["azure-code"]), RewardWeights(0.0, 1.0, 1.0, 1.0)
SCENARIO = Scenario("two-types", LOAD, Fleet(TYPES), SLO(ttft_s=0.5, atgt_s=0.03), 10.0, reward=MISSES)
SHAPE = Shape.of(Task(places=True, scales=False), types=len(TYPES))


def configured() -> PPOConfig:
    """Two processes with eight environments each, and the learner in this one."""
    return (
        PPOConfig()
        .environment("aladdin/Placement-v0", env_config={"scenario": SCENARIO})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=8, rollout_fragment_length=256)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ClusterModule, model_config={"shape": SHAPE}))
        .training(
            gamma=1.0, lambda_=0.99, lr=1e-3, train_batch_size_per_learner=4096, minibatch_size=1024, num_epochs=4
        )
        .debugging(seed=0)
    )


def main(iterations: int) -> None:
    """Train for so many iterations."""
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    register()
    algorithm = configured().build_algo()
    for i in range(1, iterations + 1):
        told = algorithm.train()["env_runners"]
        print(f"iteration {i}: mean return {told['episode_return_mean']:7.2f}", flush=True)
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
