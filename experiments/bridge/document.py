"""Results in documents: between a mark that names the script that made them and one at their end."""

from __future__ import annotations

_END = "<!-- end of results -->"


def with_results(text: str, script: str, results: str) -> str:
    """The document with these results of a script, such as ``experiments.bridge.soak``, in place of those before."""
    begin = f"<!-- results: python -m {script} -->"
    before, found, rest = text.partition(begin)
    if not found:
        raise ValueError(f"no {begin} in the document")
    return f"{before}{begin}\n{results}{_END}{rest.partition(_END)[2]}"
