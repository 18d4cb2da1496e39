"""What TensorBoard shows beside Stable-Baselines3's scalars, and what a run must know of the episodes that end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from aladdin_env.envs.spaces import Task

#: Scalars from the summaries of episodes, by their names in TensorBoard below ``serving/``.
SERVING = {
    "slo_attainment": "slo_attainment",
    "ttft_p99": "ttft_p99_s",
    "atgt_p99": "atgt_p99_s",
    "gpus_mean": "gpus_mean",
    "cost_per_1k_requests": "cost_per_1k_requests",
    "goodput_per_gpu": "goodput_per_gpu_rps",
    "queue_mean": "queue_mean_s",
}
_EXCLUDED = ("stdout", "log", "json", "csv")


class TensorBoard(TensorBoardOutputFormat):
    """Event files of a run; what an earlier, killed one wrote after ``step`` is told to be void."""

    def __init__(self, folder: Path, step: int) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        self._is_closed = False


def make_logger(folder: Path, step: int) -> Logger:
    """A logger that writes event files into ``folder``, which go on after ``step``."""
    folder.mkdir(parents=True, exist_ok=True)
    return Logger(str(folder), [TensorBoard(folder, step)])


def record_settings(logger: Logger, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Hyper-parameters for the tab HPARAMS, with the names of the scalars that it is to show beside them."""
    plain = {
        name: value if isinstance(value, bool | int | float | str) else ", ".join(map(str, value))
        for name, value in settings.items()
    }
    logger.record("hparams", HParam(plain, dict(metrics)), exclude=_EXCLUDED)


class Collector(BaseCallback):
    """Notes the episodes that end and the actions that are taken, and records both at the end of a rollout.

    Args:
        task: Of the environments.
        slots: Worker slots in the numbering of the actions.

    Attributes:
        attained: Attainment of the episodes of the last rollout, by scenario.
        recent: That of the last hundred episodes.
    """

    def __init__(self, task: Task, slots: int) -> None:
        super().__init__()
        self.recent: deque[float] = deque(maxlen=100)
        self.attained: dict[str, list[float]] = {}
        self._slots = slots if task.places else 0
        self._holds = task.places and task.holds
        self._rejects = task.places and task.rejects
        self._summaries: list[dict[str, float]] = []
        self._actions: list[NDArray[np.int64]] = []

    def _on_rollout_start(self) -> None:
        self.attained, self._summaries, self._actions = {}, [], []

    def _on_step(self) -> bool:
        self._actions.append(np.asarray(self.locals["actions"]).ravel().copy())
        for e in np.flatnonzero(self.locals["dones"]).tolist():
            info = self.locals["infos"][e]
            summary = info["summary"]
            self._summaries.append(summary)
            self.attained.setdefault(info["scenario"], []).append(float(summary["slo_attainment"]))
            self.recent.append(float(summary["slo_attainment"]))
        return True

    def _on_rollout_end(self) -> None:
        for name, measure in SERVING.items():
            values = [s[measure] for s in self._summaries if np.isfinite(s[measure])]
            if values:
                self.logger.record(f"serving/{name}", float(np.mean(values)))
        self._record_actions(np.concatenate(self._actions))

    def _record_actions(self, actions: NDArray[np.int64]) -> None:
        """Histograms of slots and of changes by their numbers, shares of HOLD and REJECT among placements."""
        first_change = self._slots + int(self._holds) + int(self._rejects)
        placements, changes = actions[actions < first_change], actions[actions >= first_change] - first_change
        if len(placements):
            self._record_histogram("actions/slot", placements[placements < self._slots])
            if self._holds:
                self.logger.record("actions/hold", float((placements == self._slots).mean()))
            if self._rejects:
                self.logger.record("actions/reject", float((placements == first_change - 1).mean()))
        self._record_histogram("actions/change", changes)

    def _record_histogram(self, name: str, values: NDArray[np.int64]) -> None:
        if len(values):
            self.logger.record(name, values.astype(np.float32), exclude=_EXCLUDED)


def record_pictures(logger: Logger, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Moments of an episode, (height, width, 3) each, under names of their own."""
    from stable_baselines3.common.logger import Image

    for i, picture in enumerate(pictures):
        logger.record(f"episode/moment_{i + 1}", Image(picture, "HWC"), exclude=_EXCLUDED)
