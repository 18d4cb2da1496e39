"""Measure a running, untouched OpenAI-compatible streaming server from outside.

:mod:`~aladdin_calibration.server.client` sends completions and times their tokens. It needs ``aladdin-env[serve]``;
importing it does not.
"""
