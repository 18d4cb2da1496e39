"""What a training run is made of: a TOML file, read into frozen dataclasses; docs/training.md lists all fields."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from aladdin_agents.learned.advice import check_adviser
from aladdin_agents.learned.train.fields import by_path, choice, laid_over, number, plain, read
from aladdin_env.envs.spaces import Task
from aladdin_env.errors import InputError
from aladdin_traces import checks
from aladdin_traces.files import whole_file

TASKS = ("placement", "scaling", "joint")
NETWORKS = ("equivariant", "mlp", "steered")
#: In place of names of scenarios: the training split of the benchmark.
BENCHMARK = "benchmark"
_HUGE = 10**12


@dataclass(frozen=True)
class Network:
    """The policy's network.

    Attributes:
        kind: "equivariant" (any number of workers and worker types), "mlp" (those of the one fleet given), or
            "steered": no network, but what steers Aladdin, found by a search over whole episodes.
        hidden: Width of its layers.
        start: Checkpoint (``.npz``) of such a network to begin with, in place of imitation; "": none.
        adviser: ``placement+scaler`` whose advice the network gets, and at first follows, in place of imitation;
            "": none.
        trust: ... how far the logit of what is advised is above the others at first.
    """

    kind: str = choice("equivariant", NETWORKS)
    hidden: int = number(32, 1, 1024)
    start: str = ""
    adviser: str = ""
    trust: float = number(6.0, 0.0, 100.0)


@dataclass(frozen=True)
class Environment:
    """The environments that are trained in.

    Attributes:
        envs: How many are stepped together.
        allow_hold: Placement, joint: HOLD is an action.
        allow_reject: Placement, joint: REJECT is an action.
        max_change: Scaling, joint: most workers of a type to start or stop at a heartbeat.
        placement: Scaling: the policy inside that places; a compiled one is much faster.
        scaler: Placement: the policy inside that scales; "static" keeps the fleet.
        horizon_s: Training episodes last about so many seconds (half to one and a half of it, drawn); 0: as long as
            their scenario. Short ones give more episodes to learn from, and keep the environments out of step.
        randomise: Scale of the random latency profiles of each episode (``aladdin_env.randomisation``); 0: none.
    """

    envs: int = number(64, 1, 4096)
    allow_hold: bool = True
    allow_reject: bool = True
    max_change: int = number(2, 1, 16)
    placement: str = "aladdin_plus"
    scaler: str = "static"
    horizon_s: float = number(0.0, 0.0)
    randomise: float = number(1.0, 0.0, 20.0)


@dataclass(frozen=True)
class Learner:
    """MaskablePPO.

    Attributes:
        n_steps: Decisions of each environment between two updates.
        batch_size: Decisions in a minibatch; at most ``envs * n_steps``.
        epochs: Passes over the decisions at an update.
        discount_s: Rewards are discounted by the time to them, with this time constant (:mod:`.timed` says why).
        credit_s: Time over which a decision is credited with what comes; beyond it the value speaks (the lambda of
            generalised advantage estimation, as a time constant).
        learning_rate: Of Adam, at the start.
        last_learning_rate: ... at the end; linear in between.
        clip: Clipping range of PPO.
        entropy: Weight of the entropy bonus.
        value: Weight of the value loss.
        max_grad_norm: Gradients are cut to this norm.
        target_kl: An update ends early beyond this divergence; 0: never.
        average: What is validated and kept are averages of the weights, of which an update leaves this share; 0: none.
    """

    n_steps: int = number(128, 1, 10**6)
    batch_size: int = number(2048, 2, 10**7)
    epochs: int = number(4, 1, 100)
    discount_s: float = number(60.0, 1e-3)
    credit_s: float = number(5.0, 1e-3)
    learning_rate: float = number(3e-4, 0.0, 1.0)
    last_learning_rate: float = number(3e-5, 0.0, 1.0)
    clip: float = number(0.2, 1e-6, 1.0)
    entropy: float = number(0.0, 0.0, 10.0)
    value: float = number(0.5, 0.0, 100.0)
    max_grad_norm: float = number(0.5, 1e-9)
    target_kl: float = number(0.02, 0.0)
    average: float = number(0.95, 0.0, 0.9999)


@dataclass(frozen=True)
class Imitation:
    """The warm start: first act as the expert does.

    Attributes:
        expert: ``placement+scaler``; the part that the task asks for is imitated. On validation it is the reference.
        steps: Decisions collected in each round; 0: no warm start.
        rounds: In the first the expert acts, in the later ones the learner does in some environments.
        epochs: Passes over all decisions so far, in each round.
        batch_size: Decisions in a minibatch.
        learning_rate: Of Adam.
        agreement: Rounds end early where the learner's choice is the expert's in this share of held-out decisions.
        sharpen: Then all logits are multiplied by this. Who is unsure whom of several workers to take does not, by the
            best action, do what he does by chance; and PPO improves the latter.
        value_rollouts: Then the value alone is fitted to the learner's own returns over so many rollouts.
    """

    expert: str = "aladdin_plus+aladdin"
    steps: int = number(50_000, 0, 10**8)
    rounds: int = number(4, 1, 100)
    epochs: int = number(4, 1, 1000)
    batch_size: int = number(1024, 2, 10**7)
    learning_rate: float = number(1e-3, 1e-9, 1.0)
    agreement: float = number(0.9, 0.0, 1.0)
    sharpen: float = number(1.0, 0.01, 100.0)
    value_rollouts: int = number(4, 0, 1000)


@dataclass(frozen=True)
class Lagrangian:
    """The price of a missed objective, in units of what serving a request costs; moved so that the target is held.

    Attributes:
        target: SLO attainment to hold in training. (Placement on a fixed fleet: cost is constant, nothing moves.)
        start: The price at first.
        rate: How fast it moves, per update and unit of (misses / allowed misses - 1).
        low: Its least value.
        high: Its largest value.
    """

    target: float = number(0.99, 0.0, 0.9999)
    start: float = number(10.0, 1e-6)
    rate: float = number(0.1, 0.0, 10.0)
    low: float = number(1.0, 1e-6)
    high: float = number(300.0, 1e-6)


@dataclass(frozen=True)
class Curriculum:
    """Load of the training episodes, as a factor on the rate of their scenarios: drawn between ``low`` and a level.

    Attributes:
        low: The least factor.
        start: The level at first.
        full: The level at last. ``low = start = full = 1``: loads as the scenarios have them.
        growth: How much the level rises at a time.
        attainment: It rises when this attainment is reached in the episodes since it last rose ...
        patience: ... or after so many decisions.
    """

    low: float = number(0.6, 0.01, 100.0)
    start: float = number(0.9, 0.01, 100.0)
    full: float = number(1.2, 0.01, 100.0)
    growth: float = number(0.1, 0.001, 100.0)
    attainment: float = number(0.97, 0.0, 1.0)
    patience: int = number(200_000, 1, _HUGE)


@dataclass(frozen=True)
class Validation:
    """How checkpoints are judged, on episodes of their own; the best is kept, and the run ends early without progress.

    Attributes:
        target: SLO attainment below which saving is worth nothing.
        every: Decisions from one validation to the next.
        seeds: Episodes of each case.
        scenarios: Names or files in place of the benchmark's validation split or the training scenarios.
        horizon_s: Cuts their horizon, seconds; 0: whole.
        patience: The run ends after so many validations without a better one; 0: never.
        pictures: Moments of a rendered episode, for TensorBoard; 0: none.
    """

    target: float = number(0.99, 0.0, 0.9999)
    every: int = number(200_000, 1, _HUGE)
    seeds: int = number(2, 1, 1000)
    scenarios: tuple[str, ...] = ()
    horizon_s: float = number(0.0, 0.0)
    patience: int = number(10, 0, 10**6)
    pictures: int = number(4, 0, 24)


@dataclass(frozen=True)
class Stages:
    """Joint: train the halves apart and put them into one network; each a configuration or a finished checkpoint.

    Attributes:
        placement: TOML file or ``.npz`` of the placement half; "": no stages.
        scaling: The same of the scaling half.
    """

    placement: str = ""
    scaling: str = ""


@dataclass(frozen=True)
class Search:
    """CMA-ES over whole episodes (Hansen and Ostermeier 2001, the library ``cma``): of a steered policy.

    Attributes:
        population: Candidates in a generation, 2 or more; 0: 4 + 3 ln(weights).
        sigma: Standard deviation of the first candidates' weights about 0.
        sets: Every generation meets one of so many sets of episodes, one episode of each training scenario in a set.
        target: Attainment below which a miss counts, where the expert attains it.
        average: What is validated and kept is an average of the generations' means, of which a new one leaves this
            share.
        processes: That simulate; 0: as many as there are CPUs. The result does not depend on it.
    """

    population: int = number(0, 0, 10_000)
    sigma: float = number(0.08, 1e-6, 10.0)
    sets: int = number(4, 1, 1000)
    target: float = number(0.992, 0.0, 0.9999)
    average: float = number(0.85, 0.0, 0.9999)
    processes: int = number(0, 0, 1024)


@dataclass(frozen=True)
class Config:
    """A training run.

    Attributes:
        task: "placement", "scaling" or "joint".
        scenarios: "benchmark", or names of presets and TOML files.
        seed: Of everything random.
        steps: Decisions to learn from, by PPO; or episodes to simulate, by search.
        checkpoint_every: Decisions from one checkpoint to the next: a kill loses no more.
    """

    task: str = choice("placement", TASKS)
    scenarios: tuple[str, ...] = (BENCHMARK,)
    seed: int = number(0, 0, 2**31 - 1)
    steps: int = number(2_000_000, 0, _HUGE)
    checkpoint_every: int = number(100_000, 1, _HUGE)
    network: Network = field(default_factory=Network)
    environment: Environment = field(default_factory=Environment)
    learner: Learner = field(default_factory=Learner)
    imitation: Imitation = field(default_factory=Imitation)
    lagrangian: Lagrangian = field(default_factory=Lagrangian)
    curriculum: Curriculum = field(default_factory=Curriculum)
    validation: Validation = field(default_factory=Validation)
    stages: Stages = field(default_factory=Stages)
    search: Search = field(default_factory=Search)

    @property
    def places(self) -> bool:
        """Whether the agent places."""
        return self.task != "scaling"

    @property
    def scales(self) -> bool:
        """Whether the agent scales."""
        return self.task != "placement"

    @property
    def decides(self) -> Task:
        """The environments' task."""
        e = self.environment
        acts = self.places and self.network.kind != "steered"
        return Task(self.places, self.scales, acts and e.allow_hold, acts and e.allow_reject, e.max_change)

    @property
    def rollout(self) -> int:
        """Decisions from one update to the next."""
        return self.environment.envs * self.learner.n_steps

    def with_seed(self, seed: int | None) -> Config:
        """The same run under another seed; None keeps it."""
        return self if seed is None else replace(self, seed=checks.whole("--seed", seed, low=0, high=2**31 - 1))


# What a placement has spoilt shows some seconds later, what a worker was good for some minutes after its start.
_OF_TASK: dict[str, dict[str, dict[str, Any]]] = {
    "placement": {"environment": {"horizon_s": 240.0}},
    "scaling": {"learner": {"discount_s": 1200.0, "credit_s": 300.0, "n_steps": 64}, "imitation": {"steps": 20_000}},
    "joint": {"learner": {"discount_s": 600.0, "credit_s": 10.0}},
}


def read_config(path: str | Path) -> Config:
    """Read a run's configuration from a TOML file; files that it names are found from its own folder.

    Raises:
        InputError: no such file, no TOML, an unknown field (with the nearest known one), a value that cannot be used.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("training configuration", str(path), f"give a readable TOML file ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError("training configuration", str(path), f"mend its TOML: {error}") from None
    return _anchored(config_from(table), Path(path).absolute().parent)


def config_from(table: Mapping[str, Any]) -> Config:
    """The configuration of such a table; see :func:`read_config` for what it refuses."""
    task = table.get("task", Config.task)
    defaults = _OF_TASK.get(task, {}) if isinstance(task, str) else {}
    found = read(Config, laid_over(defaults, table), "")
    assert isinstance(found, Config)
    _check(found)
    return found


def write_config(config: Config, path: Path) -> None:
    """Write all fields to a TOML file that :func:`read_config` reads."""
    with whole_file(path) as temporary:
        temporary.write_text(tomli_w.dumps(plain(asdict(config))), encoding="utf-8")


def difference(one: Config, other: Config, free: tuple[str, ...]) -> str | None:
    """The first field, by its path, in which two runs differ; the ``free`` ones may."""
    for name, value in flat(one).items():
        if name not in free and flat(other)[name] != value:
            return name
    return None


def flat(config: Config) -> dict[str, Any]:
    """All fields by their paths, such as ``learner.clip``."""
    return by_path(asdict(config))


def _anchored(config: Config, folder: Path) -> Config:
    """The same with the files it names as absolute paths."""

    def anchor(name: str) -> str:
        is_file = name.endswith((".toml", ".npz"))
        return (folder / name).as_posix() if is_file and not Path(name).is_absolute() else name

    def anchor_policy(name: str) -> str:
        return "+".join(anchor(part.strip()) for part in name.split("+"))

    return replace(
        config,
        scenarios=tuple(map(anchor, config.scenarios)),
        network=replace(config.network, start=anchor(config.network.start)),
        environment=replace(
            config.environment,
            placement=anchor(config.environment.placement),
            scaler=anchor(config.environment.scaler),
        ),
        imitation=replace(config.imitation, expert=anchor_policy(config.imitation.expert)),
        validation=replace(config.validation, scenarios=tuple(map(anchor, config.validation.scenarios))),
        stages=Stages(anchor(config.stages.placement), anchor(config.stages.scaling)),
    )


def _check(config: Config) -> None:
    """What no field can say alone."""
    if not config.scenarios:
        raise InputError("scenarios", [], f"give {BENCHMARK!r}, or names of scenarios")
    if BENCHMARK in config.scenarios and len(config.scenarios) > 1:
        raise InputError("scenarios", list(config.scenarios), f"give {BENCHMARK!r} alone, or names of scenarios")
    if config.network.adviser:
        check_adviser("network.adviser", config.network.adviser)
        if config.network.kind != "equivariant":
            mend = f"one of kind {config.network.kind!r} takes no advice: take equivariant, or leave the adviser out"
            raise InputError("network.adviser", config.network.adviser, mend)
    if config.search.population == 1:
        raise InputError("search.population", 1, "give at least 2, or 0 for a number that goes with the weights")
    if config.learner.batch_size > config.rollout:
        mend = f"give at most environment.envs * learner.n_steps, {config.rollout}"
        raise InputError("learner.batch_size", config.learner.batch_size, mend)
    if not config.lagrangian.low <= config.lagrangian.start <= config.lagrangian.high:
        raise InputError("lagrangian.start", config.lagrangian.start, "give a number from lagrangian.low to .high")
    loads = config.curriculum
    if not loads.low <= loads.start <= loads.full:
        raise InputError("curriculum.start", loads.start, "give a number from curriculum.low to .full")
    staged = bool(config.stages.placement), bool(config.stages.scaling)
    if any(staged) and (config.task != "joint" or not all(staged)):
        raise InputError("stages", asdict(config.stages), 'give both, and only with task = "joint"')
