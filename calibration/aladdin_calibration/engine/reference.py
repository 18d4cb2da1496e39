"""A fixed job beside every step, which tells how fast the core is at that moment; needs only torch.

On a shared machine the CPU time of equal steps goes up by 10 to 40 % for a second or so whenever neighbours press on
caches and memory, and no clock shows that. It goes up by as much for this job: half of it products of matrices and a
vector that stream 48 MB, as a decode step streams its weights, half a product of matrices that computes, as a prefill
does. A step's CPU time over that of the job before and after it is steady where neither is by itself: equal steps that
differed by 6 to 12 % in the median, on two cores of a busy host, then differ by 2 to 3 %.
"""

from __future__ import annotations

import time

_MATRICES, _SIZE, _ROWS = 12, 1024, 256


class ReferenceJob:
    """Runs the job when called; the engine's process must have one torch thread, as the job's time is that of one."""

    def __init__(self) -> None:
        """Make its matrices and run it until caches and kernels are warm."""
        import torch

        self._stream, self._compute = torch.mv, torch.mm
        self._rows = torch.randn(_ROWS, _SIZE)
        self._matrices = [torch.randn(_SIZE, _SIZE) for _ in range(_MATRICES)]
        self._vector = torch.randn(_SIZE)
        for _ in range(10):
            self._last_s = self._run()

    def _run(self) -> float:
        before = time.process_time()
        for matrix in self._matrices:
            self._stream(matrix, self._vector)
        self._compute(self._rows, self._matrices[-1])
        return time.process_time() - before

    def __call__(self) -> float:
        """CPU seconds of the job, the mean of its last run and of one now: before and after the step between them."""
        last_s, self._last_s = self._last_s, self._run()
        return (last_s + self._last_s) / 2.0
