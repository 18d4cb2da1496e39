"""Stub."""
from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.lengths import LengthLaw
from aladdin_traces.request_law import RequestLaw
PRESET_LAWS: dict[str, tuple[ArrivalProcess, LengthLaw] | RequestLaw] = {}
