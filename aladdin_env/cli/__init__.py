"""The command line: ``aladdin compare``, ``simulate``, ``plan``, ``bench``, ``scenarios``, ``policies``."""

from aladdin_env.cli.app import app, main

__all__ = ["app", "main"]
