"""Comparing policies: who takes part, on which draws, what it costs, and how sure that is."""

from aladdin_env.compare.comparison import TARGET, Comparison, compare, compare_fewest, rounds, searches
from aladdin_env.compare.contenders import Contender, contenders, default_contenders, is_scaling
from aladdin_env.compare.rows import MEASURES, Row
from aladdin_env.compare.search import Ladder, Search
from aladdin_env.compare.statistics import Estimate, estimate

__all__ = [
    "MEASURES",
    "TARGET",
    "Comparison",
    "Contender",
    "Estimate",
    "Ladder",
    "Row",
    "Search",
    "compare",
    "compare_fewest",
    "contenders",
    "default_contenders",
    "estimate",
    "is_scaling",
    "rounds",
    "searches",
]
