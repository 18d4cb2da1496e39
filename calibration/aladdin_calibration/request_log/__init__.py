"""Latency laws and KV room of a server from the log of the requests it served."""

from aladdin_calibration.request_log.fit import fit_request_log
from aladdin_calibration.request_log.log import EngineLimits, RequestLog
from aladdin_calibration.request_log.reader import read_request_log
from aladdin_calibration.request_log.result import Estimate, KvRoom, LogFit

__all__ = ["EngineLimits", "Estimate", "KvRoom", "LogFit", "RequestLog", "fit_request_log", "read_request_log"]
