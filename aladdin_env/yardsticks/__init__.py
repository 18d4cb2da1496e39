"""What no policy can beat: a clairvoyant lower bound for whole traces, exact optima for small packings."""

from aladdin_env.yardsticks.clairvoyant import LowerBound, least_workers, lower_bound
from aladdin_env.yardsticks.packing import Packing, fewest_bins

__all__ = ["LowerBound", "Packing", "fewest_bins", "least_workers", "lower_bound"]
