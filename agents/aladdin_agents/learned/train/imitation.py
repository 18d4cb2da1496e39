"""The warm start: the expert's decisions, learned from states to which expert and learner lead; then the value.

Round 0 is driven by the expert. In later rounds the learner drives some environments (more from round to round), and
the expert says what it would have done there (DAgger): so the learner sees where its own mistakes lead. Two workers
that look the same are the same choice: whichever the expert took, the loss and the agreement count both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aladdin_agents.learned.train.config import Imitation
from aladdin_agents.learned.train.experts import NO_ACTION, Experts
from aladdin_agents.learned.train.learner import ClusterPPO
from aladdin_agents.learned.train.pool import Observation, PooledVecEnv
from aladdin_env.features import WORKER_FEATURES
from aladdin_env.policy import make_policy

_HELD_OUT = 0.1
#: Told what is being done, and which part of it is done.
Progress = Callable[[str, float], None]


@dataclass
class Demonstrations:
    """Observations with the expert's choice.

    Attributes:
        observations: Arrays by name, (n, ...).
        right: (n, actions) bool: what the expert chose, and what looks the same.
    """

    observations: Observation
    right: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.right)

    def some(self, rows: NDArray[np.int64]) -> tuple[dict[str, Tensor], Tensor]:
        """These rows as tensors."""
        tensors = {name: torch.from_numpy(array[rows]) for name, array in self.observations.items()}
        return tensors, torch.from_numpy(self.right[rows])

    @classmethod
    def together(cls, parts: list[Demonstrations]) -> Demonstrations:
        """All of them."""
        names = parts[0].observations
        found = {name: np.concatenate([part.observations[name] for part in parts]) for name in names}
        return cls(found, np.concatenate([part.right for part in parts]))


def same_choices(observation: Observation, actions: NDArray[np.int64], slots: int) -> NDArray[np.bool_]:
    """(n, actions): the ``actions`` (n,), and of slots every allowed one that has the same features."""
    mask = observation["mask"].astype(np.bool_)
    n = len(actions)
    right = np.zeros_like(mask)
    right[np.arange(n), actions] = True
    placed = np.flatnonzero(actions < slots)
    if not len(placed):  # where nothing is placed, actions are no slots
        return right & mask
    workers = observation["workers"].reshape(n, -1, len(WORKER_FEATURES))[placed]
    chosen = workers[np.arange(len(placed)), actions[placed]]
    right[placed, : workers.shape[1]] |= (workers == chosen[:, None, :]).all(axis=2)
    return right & mask


class Imitator:
    """Collects demonstrations in the environments of a run and learns from them.

    Args:
        model: Its policy learns; its optimiser is not touched.
        pool: The environments.
        chosen: How much.
        seed: Of who drives where, and of the minibatches.
    """

    def __init__(self, model: ClusterPPO, pool: PooledVecEnv, chosen: Imitation, seed: int) -> None:
        self._model, self._pool, self._chosen = model, pool, chosen
        self._rng = np.random.default_rng([seed, 1])
        self._experts = [Experts(part.engine, partial(make_policy, chosen.expert)) for part in pool.parts]
        self._optimiser = torch.optim.Adam(model.cluster_policy.net.parameters(), lr=chosen.learning_rate)
        self._slots = pool.whole.slots if pool.task.places else 0

    def run(self, progress: Progress) -> float:
        """Rounds of collecting and learning; the agreement on held-out decisions of the last round."""
        training: list[Demonstrations] = []
        held_out: list[Demonstrations] = []
        agreement = 0.0
        for k in range(self._chosen.rounds):
            share = k / self._chosen.rounds
            found = self._collect(share, lambda part, k=k: progress(f"round {k + 1}: watching", part))  # type: ignore[misc]
            test = self._rng.random(len(found)) < _HELD_OUT
            held_out = [_rows(found, test)]  # of this round alone: the states to which the learner leads
            training.append(_rows(found, ~test))
            self._learn(training, lambda part, k=k: progress(f"round {k + 1}: learning", part))  # type: ignore[misc]
            agreement = self._agreement(held_out[0])
            if agreement >= self._chosen.agreement and k > 0:
                break
        return agreement

    def _collect(self, share: float, progress: Callable[[float], None]) -> Demonstrations:
        """Decisions of the expert, the learner driving this share of the environments."""
        pool = self._pool
        observation = pool.reset()
        for part, experts in zip(pool.parts, self._experts, strict=True):
            for e in range(part.envs.num_envs):
                experts.begin(e)
        drives = self._rng.random(pool.num_envs) < share
        parts: list[Demonstrations] = []
        collected = 0
        while collected < self._chosen.steps:
            expert = self._expert_actions()
            known = np.flatnonzero(expert != NO_ACTION)
            seen = {name: array[known] for name, array in observation.items()}
            parts.append(Demonstrations(seen, same_choices(seen, expert[known], self._slots)))
            collected += pool.num_envs
            actions = np.where(drives | (expert == NO_ACTION), self._learner_actions(observation), expert)
            seen_next, _, dones, _ = pool.step(actions)
            observation = cast("Observation", seen_next)
            self._restart(dones, drives, share)
            progress(min(1.0, collected / self._chosen.steps))
        return Demonstrations.together(parts)

    def _restart(self, dones: NDArray[np.bool_], drives: NDArray[np.bool_], share: float) -> None:
        """New episodes: the expert forgets, and who drives is drawn anew."""
        for part, experts in zip(self._pool.parts, self._experts, strict=True):
            for e in np.flatnonzero(dones[part.here]).tolist():
                experts.begin(e)
                drives[part.here.start + e] = self._rng.random() < share

    def _expert_actions(self) -> NDArray[np.int64]:
        """In the numbering of the pool."""
        found = np.full(self._pool.num_envs, NO_ACTION, dtype=np.int64)
        for part, experts in zip(self._pool.parts, self._experts, strict=True):
            own = experts.actions()
            found[part.here] = np.where(own == NO_ACTION, NO_ACTION, part.numbers[own])
        return found

    def _learner_actions(self, observation: Observation) -> NDArray[np.int64]:
        """The learner's best, as it will be judged."""
        with torch.no_grad():
            tensors = {name: torch.from_numpy(array) for name, array in observation.items()}
            logits, _ = self._model.cluster_policy.logits_and_values(tensors)
        return _masked(logits, tensors["mask"]).argmax(dim=1).numpy()

    def _learn(self, parts: list[Demonstrations], progress: Callable[[float], None]) -> None:
        """Cross-entropy on all demonstrations so far; the learning rate falls to a tenth."""
        data = Demonstrations.together(parts)
        size, epochs = self._chosen.batch_size, self._chosen.epochs
        for epoch in range(epochs):
            order = self._rng.permutation(len(data))
            for at in range(0, len(order), size):
                tensors, right = data.some(order[at : at + size])
                logits, _ = self._model.cluster_policy.logits_and_values(tensors)
                scores = torch.log_softmax(_masked(logits, tensors["mask"]), dim=1)
                loss = -torch.logsumexp(scores.masked_fill(~right, -torch.inf), dim=1).mean()
                part = (epoch + at / len(order)) / epochs
                self._optimiser.param_groups[0]["lr"] = self._chosen.learning_rate * (1.0 - 0.9 * part)
                self._optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()
                progress(part)

    def _agreement(self, data: Demonstrations) -> float:
        """Share of the decisions in which the learner's best is what the expert chose, or looks the same."""
        hits = 0
        with torch.no_grad():
            for at in range(0, len(data), 8192):
                tensors, right = data.some(np.arange(at, min(at + 8192, len(data))))
                logits, _ = self._model.cluster_policy.logits_and_values(tensors)
                best = _masked(logits, tensors["mask"]).argmax(dim=1)
                hits += int(right[torch.arange(len(best)), best].sum())
        return hits / max(1, len(data))


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    return logits.masked_fill(mask == 0, -torch.inf)


def _rows(data: Demonstrations, chosen: NDArray[np.bool_]) -> Demonstrations:
    return Demonstrations({name: array[chosen] for name, array in data.observations.items()}, data.right[chosen])
