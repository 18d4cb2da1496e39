"""Checkpoints: weights and a card in one file. Nothing in a file is ever run: no pickle of unknown origin is read."""

from __future__ import annotations

import io
import os
import pickle
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.layout import check_weights, layers_of, weight_sizes
from aladdin_env.errors import InputError
from aladdin_traces.files import whole_file

Weights = dict[str, NDArray[np.float32]]
Read = TypeVar("Read")

#: No checkpoint is larger, packed or unpacked.
LIMIT_BYTES = 64 * 2**20
CARD_ARRAY = "card"
CARD_MEMBER = "aladdin_card.json"
_PARAMETERS, _PREFIX = "policy.pth", "net."
#: What a damaged or hostile file may make its readers raise.
FAULTS = (
    zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError, MemoryError, NotImplementedError,
    RuntimeError, OverflowError, SyntaxError, TypeError, RecursionError, tokenize.TokenError,
)  # fmt: skip


def sizes_of(card: Card) -> dict[str, tuple[int, ...]]:
    """Size of each array of weights that a checkpoint with this card has."""
    return weight_sizes(layers_of(card.network, card.shape, card.hidden, card.slots))


def same_network(one: Card, other: Card) -> bool:
    """Whether the weights of the one fit the other; on how many worker types each was trained does not matter."""

    def kind(card: Card) -> tuple[object, ...]:
        return card.network, card.hidden, card.adviser, replace(card.shape, types=1)

    return kind(one) == kind(other)


def save(path: str | os.PathLike[str], weights: Mapping[str, NDArray[np.float32]], card: Card) -> None:
    """Write a checkpoint (``.npz``), whole or not at all.

    Raises:
        InputError: another ending, weights that are not those of the card or too large, no such folder.
    """
    if Path(path).suffix != ".npz":
        raise InputError("checkpoint", os.fspath(path), "the name must end in .npz")
    check_weights("weights", weights, sizes_of(card))
    if sum(array.nbytes for array in weights.values()) > LIMIT_BYTES:
        raise _too_large(os.fspath(path))
    text = np.frombuffer(card.to_json().encode(), dtype=np.uint8)
    with whole_file(path) as temporary:
        np.savez(temporary, allow_pickle=False, **{CARD_ARRAY: text}, **weights)


def load(path: str | os.PathLike[str]) -> tuple[Weights, Card]:
    """The weights and the card of a checkpoint (``.npz``).

    Raises:
        InputError: no such file, no checkpoint, damaged, too large, or of another observation version.
    """
    field = os.fspath(path)
    arrays = _guarded(field, lambda: _read_arrays(field))
    text = arrays.pop(CARD_ARRAY, None)
    if text is None or text.dtype != np.uint8:
        raise InputError(field, "a file without a card", "give a checkpoint written by aladdin_agents.learned")
    card = _read_card(field, text.tobytes())
    check_weights(field, arrays, sizes_of(card))
    return arrays, card


def load_zip(path: str | os.PathLike[str]) -> tuple[Weights, Card]:
    """The weights and the card of a model that Stable-Baselines3 saved and :func:`write_zip_card` completed.

    Of the file only the card and the tensors of the policy are read, these by ``torch.load(weights_only=True)``.

    Raises:
        InputError: no such file, no such model, no card, damaged, too large, another observation version; no torch.
    """
    field = os.fspath(path)
    text, packed = _guarded(field, lambda: _read_members(field))
    card = _read_card(field, text)
    weights = _guarded(field, lambda: _read_tensors(field, packed, sizes_of(card)))
    check_weights(field, weights, sizes_of(card))
    return weights, card


def write_zip_card(path: str | os.PathLike[str], card: Card) -> None:
    """Put the card into a model that Stable-Baselines3 has saved; one that is there already is replaced.

    Raises:
        InputError: it is no such file, or cannot be written.
    """
    field = os.fspath(path)
    with (
        _guarded(field, lambda: zipfile.ZipFile(field)) as old,
        whole_file(path) as temporary,
        zipfile.ZipFile(temporary, "w") as new,
    ):
        for member in old.infolist():
            if member.filename != CARD_MEMBER:
                new.writestr(member, old.read(member))
        new.writestr(CARD_MEMBER, card.to_json())


def _guarded(field: str, read: Callable[[], Read]) -> Read:
    """What ``read`` returns; whatever a damaged or hostile file makes it raise is one clear error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("checkpoint", field, "there is no such file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError("checkpoint", field, f"it cannot be read ({error.strerror})") from None
    except FAULTS as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError("checkpoint", field, f"it is no checkpoint, or damaged ({why}): export it again") from None


def _opened(field: str) -> zipfile.ZipFile:
    """The archive, if neither it nor its content is too large."""
    if Path(field).stat().st_size > LIMIT_BYTES:
        raise _too_large(field)
    archive = zipfile.ZipFile(field)
    _check_sizes(field, archive)
    return archive


def _check_sizes(field: str, archive: zipfile.ZipFile) -> None:
    if sum(member.file_size for member in archive.infolist()) > LIMIT_BYTES:
        raise _too_large(field)


def _too_large(field: str) -> InputError:
    return InputError("checkpoint", field, f"it holds more than {LIMIT_BYTES // 2**20} MiB, the limit of a checkpoint")


def _read_arrays(field: str) -> dict[str, NDArray[Any]]:
    _opened(field).close()
    with np.load(field, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        found = {name: file[name] for name in file.files}
    if not all(isinstance(array, np.ndarray) for array in found.values()):  # NumPy gives other members as bytes
        raise ValueError("members that are no arrays")
    return found


def _read_members(field: str) -> tuple[bytes, bytes]:
    """The card's text and the packed tensors of the policy."""
    with _opened(field) as archive:
        names = archive.namelist()
        if _PARAMETERS not in names:
            raise ValueError(f"no {_PARAMETERS} inside")
        if CARD_MEMBER not in names:
            mend = "write its card into it (aladdin_agents.learned.checkpoint.write_zip_card), or give an .npz"
            raise InputError("checkpoint", f"{field} without a card", mend)
        return archive.read(CARD_MEMBER), archive.read(_PARAMETERS)


def _read_card(field: str, text: bytes) -> Card:
    try:
        card = Card.from_json(text.decode())
    except UnicodeDecodeError:
        raise InputError(field, "a card that is no text", "export it again") from None
    except InputError as error:
        raise InputError(f"{field}: {error.field}", error.value, error.mend) from None
    card.check_version(field)
    return card


def _read_tensors(field: str, packed: bytes, sizes: Mapping[str, tuple[int, ...]]) -> Weights:
    """The tensors of the network as arrays; sizes first, as a small file may claim a huge tensor."""
    try:
        import torch
    except ImportError:
        mend = "reading it takes torch: pip install 'aladdin-env[rl]', or export it to .npz where torch is"
        raise InputError("checkpoint", field, mend) from None
    with zipfile.ZipFile(io.BytesIO(packed)) as inner:
        _check_sizes(field, inner)
    try:
        state = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError("it holds more than tensors") from None
    if not isinstance(state, dict):
        raise ValueError("no table of tensors")
    found: Weights = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or not name.startswith(_PREFIX):
            raise ValueError(f"a part {name!r} that is none of the policy's network")
        key = name.removeprefix(_PREFIX)
        if tuple(tensor.shape) != sizes.get(key):
            raise ValueError(f"{key} of {tuple(tensor.shape)}")
        found[key] = tensor.detach().to(torch.float32).numpy().copy()
    return found
