"""The command that starts a worker on this machine, with places for what differs between workers."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass

from aladdin_env.errors import InputError

_PLACES = ("port", "gpu")
#: A name in braces. JSON in an argument, as vLLM takes it, is not of that form.
_PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Command:
    """A command line such as ``vllm serve MODEL --port {port}``.

    Attributes:
        words: Its words; ``{port}`` and ``{gpu}`` stand for the worker's.
    """

    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Command:
        """Read a command line as a shell splits it.

        Raises:
            InputError: It has no ``{port}``, an unknown place, an open quote, or no such program exists.
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise InputError("local", text, f"mend the quotes: {str(error).lower()}") from None
        places = set(_PLACE.findall(text))
        if "port" not in places:
            raise InputError("local", text, "write {port} where the port goes: vllm serve MODEL --port {port}")
        unknown = sorted(places.difference(_PLACES))
        if unknown:
            raise InputError("local", "{" + unknown[0] + "}", "only {port} and {gpu} are filled in")
        if shutil.which(words[0]) is None:
            raise InputError("local", words[0], "install this program, or give its path: it is not found")
        return cls(words)

    @property
    def names_gpus(self) -> bool:
        """Whether the worker's GPUs stand in it."""
        return any("{gpu}" in word for word in self.words)

    def fill(self, port: int, gpus: str | None) -> list[str]:
        """The words for one worker; ``gpus`` as CUDA_VISIBLE_DEVICES names them, None: all."""
        return [word.replace("{port}", str(port)).replace("{gpu}", gpus or "") for word in self.words]
