"""The arrival laws by name. Every draw takes its randomness from the generator it is given."""

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.diurnal import Diurnal
from aladdin_traces.modulated import Flood, Mmpp, OnOff
from aladdin_traces.renewals import GammaRenewal, Poisson, WeibullRenewal

ARRIVALS: dict[str, type[ArrivalProcess]] = {
    law.kind: law for law in (Poisson, GammaRenewal, WeibullRenewal, OnOff, Mmpp, Diurnal, Flood)
}
"""All arrival laws by their name in a workload's table."""
