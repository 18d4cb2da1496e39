"""Print the environments' speeds; what is timed is in ``aladdin_env.bench.envs``. Run: ``python -m experiments.bench.envs``."""

from aladdin_env.bench.envs import env_steps_per_s, vec_env_steps_per_s


def main() -> None:
    """One line per figure."""
    for scheduler in ("chunked", "prefill_first"):
        print(f"vec_env_steps_per_s {scheduler}: {vec_env_steps_per_s(scheduler=scheduler):,.0f}")
    print(f"env_steps_per_s: {env_steps_per_s():,.0f}")


if __name__ == "__main__":
    main()
