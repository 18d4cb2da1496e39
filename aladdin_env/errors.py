"""The errors that are told in one line, shared by all packages."""

from aladdin_traces.errors import InputError, OutsideFault, suggest

__all__ = ["InputError", "OutsideFault", "suggest"]
