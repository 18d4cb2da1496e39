"""Policies of a third party, in plain Python: what the tests compare. A fixture installs them."""

import os
import time


class First:
    """Everything on the first worker."""

    name = "toy_first"

    def place(self, view, request):
        return int(view.candidates(request)[0])


class Spread:
    """The worker with the fewest requests."""

    name = "toy_spread"

    def place(self, view, request):
        workers = view.workers
        return int(min(view.candidates(request), key=lambda w: workers["running"][w] + workers["waiting"][w]))


class Coin(Spread):
    """Heads or tails, from the request's own coin."""

    name = "toy_coin"

    def place(self, view, request):
        candidates = view.candidates(request)
        return int(candidates[int(request.coin * len(candidates))])


class Silly(Spread):
    """Names a worker that does not exist."""

    name = "toy_silly"

    def place(self, view, request):
        return 999


class Slow(Spread):
    """Takes its time, and says when it starts."""

    name = "toy_slow"

    def reset(self, scenario):
        with open(os.environ["TOY_MARKER"] + f"-{os.getpid()}", "w"):
            pass

    def place(self, view, request):
        time.sleep(0.05)
        return super().place(view, request)


class Rate:
    """A worker for every two requests per second of the last heartbeats."""

    name = "toy_rate"

    def settings(self):
        return {"rps_per_worker": 2.0}

    def scale(self, view):
        return [max(1, round(float(view.recent(3)[:, 0].mean()) / view.scenario.heartbeat_s / 2.0)) for _ in view.types]


def make_first(scenario):
    """Everything on the first worker."""
    return First()


def make_spread(scenario):
    """The worker with the fewest requests."""
    return Spread()


def make_coin(scenario):
    """Heads or tails."""
    return Coin()


def make_silly(scenario):
    """Names a worker that does not exist."""
    return Silly()


def make_slow(scenario):
    """Takes its time."""
    return Slow()


def make_rate(scenario):
    """Two requests per second for each worker."""
    return Rate()
