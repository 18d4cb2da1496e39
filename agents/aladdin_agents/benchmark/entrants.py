"""Who takes part: the heuristics of this version, and whatever else is named."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from aladdin_agents.benchmark.scenarios import Case
from aladdin_env.compare import Contender, contenders
from aladdin_env.errors import InputError
from aladdin_env.policy import Combined, make_policy, scaler_names
from aladdin_env.scenario import Scenario

BOUND = "bound"
"""The policy of the rows with the clairvoyant bound; no policy can have this name."""

#: All placements that shipped when this version's results were recorded, but for ``aladdin_grouped``: on up to 64
#: workers it is ``aladdin``. Who came later takes part by name; as one of these it would change "the best heuristic".
PLACEMENTS = (
    "aladdin", "aladdin_literal", "aladdin_plus", "least_headroom", "least_kv", "least_request", "least_tokens",
    "lmetric", "most_headroom", "power_of_two", "prefix_affinity", "random", "round_robin",
)  # fmt: skip
SCALERS = ("aladdin", "kpa", "static", "target_utilisation", "tuned_reactive")
LATER = ("pack_to_cap", "planner", "saturation")
"""Placements and scalers that came after the recorded results."""
_WITH_ALADDIN = tuple(f"aladdin+{scaler}" for scaler in SCALERS)
HEURISTICS = {
    "placement": PLACEMENTS,
    "scaling": _WITH_ALADDIN,
    "joint": (*_WITH_ALADDIN, "aladdin_plus+aladdin", *(f"least_request+{scaler}" for scaler in SCALERS)),
}
"""By task, the policies of which the best in a scenario is "the best heuristic"."""
REFERENCE = {"placement": "aladdin", "scaling": "aladdin+aladdin", "joint": "aladdin+aladdin"}
"""By task, the policy that the paper stands for."""

FILES = (".npz", ".zip")
"""Endings of policy files."""
_OURS = "aladdin-env"


@dataclass(frozen=True)
class Entrant:
    """A policy as it takes part in a scenario.

    Attributes:
        contender: What is simulated; its label is the policy's name in rows.
        sha256: Of its files, in their order, joined by "+"; empty without files.
        package: Third-party packages that it comes from, as ``name==version``; empty for ours.
    """

    contender: Contender
    sha256: str
    package: str

    @property
    def policy(self) -> str:
        """Its name in rows: ``placement`` or ``placement+scaler``, where both parts may be files."""
        return self.contender.label


def entrant(case: Case, policy: str, folder: Path = Path()) -> Entrant:
    """The policy that a user, or a row, names; made once for the scenario to see that it can be.

    Under "scaling" a scaler alone, be it a name or a file, goes with the placement ``aladdin``; under "joint" a
    placement that does not scale goes with the scaler ``aladdin``; under "placement" whatever could scale only places.
    Files that are not where they should be are looked for in ``folder``, by their names.

    Raises:
        InputError: the name of the bound, a scaler for a fixed fleet, no such name or file, a file that does not fit.
    """
    parts = [part.strip() for part in policy.split("+")]
    if parts == [BOUND]:
        raise InputError("policy", policy, "leave it out: the bound is always computed")
    if case.task == "placement" and len(parts) > 1:
        raise InputError("policy", policy, "the task placement has a fixed fleet: name a placement without a scaler")
    if case.task == "scaling" and len(parts) == 1 and (_is_file(parts[0]) or parts[0] in scaler_names()):
        parts.insert(0, "aladdin")
    found = [_located(part, folder) for part in parts]
    label, spec = "+".join(parts), "+".join(found)
    digests = [hashlib.sha256(Path(part).read_bytes()).hexdigest() for part in found if _is_file(part)]
    packages = dict.fromkeys(name for part in parts if (name := _package(part)))
    return Entrant(_contender(case, label, spec), "+".join(digests), "+".join(packages))


def _contender(case: Case, label: str, spec: str) -> Contender:
    if case.task == "placement":
        found = Contender(label, partial(_placement_alone, spec))
        found.make(case.scenario)
        return found
    (made,) = contenders(case.scenario, [spec])
    default_scaler = made.label.removeprefix(spec)
    return Contender(label + default_scaler, made.spec, made.settings)


def _located(part: str, folder: Path) -> str:
    """A part of a policy; a file as a path under which it exists.

    Raises:
        InputError: there is no such file.
    """
    if not _is_file(part):
        return part
    for path in (Path(part), folder / Path(part).name):
        if path.is_file():
            return str(path)
    raise InputError("policy", part, f"there is no such file, nor one of its name in {folder.resolve()}")


def _placement_alone(spec: str, scenario: Scenario) -> Combined:
    """On a fixed fleet an agent that could scale only places."""
    return Combined(make_policy(spec, scenario).placement)


def _is_file(part: str) -> bool:
    return part.endswith(FILES)


def _package(part: str) -> str:
    """The package that registers a policy or scaler, if it is not ours."""
    for group in ("aladdin.policies", "aladdin.scalers"):
        for point in entry_points(group=group, name=part):
            if point.dist is not None and point.dist.name != _OURS:
                return f"{point.dist.name}=={point.dist.version}"
    return ""
