"""The error of a user's mistake, shared by all packages."""

from aladdin_traces.errors import InputError, suggest

__all__ = ["InputError", "suggest"]
