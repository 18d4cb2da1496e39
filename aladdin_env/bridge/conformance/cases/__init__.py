"""All cases, in the order in which they run: those that hurt a router come late, the one that ends it is the last."""

from aladdin_env.bridge.conformance.case import Case
from aladdin_env.bridge.conformance.cases import (
    failures,
    hang_ups,
    headers,
    life,
    load,
    mistakes,
    paths,
    retries,
    streams,
)

CASES: tuple[Case, ...] = tuple(
    value
    for theme in (paths, streams, headers, mistakes, hang_ups, load, retries, failures, life)
    for value in vars(theme).values()
    if isinstance(value, Case)
)
