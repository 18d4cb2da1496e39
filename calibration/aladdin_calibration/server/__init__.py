"""Measure a running, untouched OpenAI-compatible streaming server from outside.

:func:`measure_server` gives a :class:`~aladdin_calibration.measurement.Measurement`; :class:`Client` sends single
completions and times their tokens. Both need ``aladdin-env[serve]``; importing them does not.
"""

from aladdin_calibration.server.client import Client, Dialect, ServerFault
from aladdin_calibration.server.plan import Plan
from aladdin_calibration.server.run import measure_server
from aladdin_calibration.server.stream import Completion, ServerTimes

__all__ = ["Client", "Completion", "Dialect", "Plan", "ServerFault", "ServerTimes", "measure_server"]
