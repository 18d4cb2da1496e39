"""Checkpoint files: what is written is read; everything else is one clear error, and nothing in a file is ever run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO

from aladdin_agents.learned import checkpoint
from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import load, load_zip, save, write_zip_card
from aladdin_agents.learned.export import card_of, export_net, save_model, zip_to_npz
from aladdin_agents.learned.networks import weights_of
from aladdin_agents.learned.sb3 import ClusterPolicy
from aladdin_env import InputError
from aladdin_env.features import OBSERVATION_VERSION

from . import samples
from .samples import NETWORKS, SHAPES

JOINT = SHAPES["joint"]


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture
def weights():
    return weights_of(samples.net(JOINT))


@pytest.fixture
def file(tmp_path, weights):
    path = tmp_path / "joint.npz"
    save(path, weights, samples.card(JOINT))
    return path


def refused(path, *texts: str, read=load) -> str:
    """The one line that says why."""
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in (str(path), *texts):
        assert part in text
    return text


def rewritten(path: Path, **changes) -> Path:
    """The same file with other arrays; None leaves one out."""
    with np.load(path) as old:
        arrays = {name: old[name] for name in old.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def carded(path: Path, **changes) -> Path:
    """The same file with another card; a field of None is left out."""
    with np.load(path) as old:
        card = json.loads(old["card"].tobytes()) | changes
    text = json.dumps({name: value for name, value in card.items() if value != "left out"})
    return rewritten(path, card=np.frombuffer(text.encode(), dtype=np.uint8))


# --- what is written is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(tmp_path, shape, name):
    path, weights, card = tmp_path / "a.npz", weights_of(samples.net(shape, name)), samples.card(shape, name)
    save(path, weights, card)
    found, found_card = load(path)
    assert found_card == card
    assert found.keys() == weights.keys()
    assert all((found[key] == weights[key]).all() and found[key].dtype == np.float32 for key in weights)


def test_a_file_is_small_and_without_objects(file):
    assert file.stat().st_size < 200_000
    with np.load(file, allow_pickle=False) as arrays:
        assert json.loads(arrays["card"].tobytes())["kind"] == "joint"


def test_a_card_survives_json():
    for shape in SHAPES.values():
        for name in NETWORKS:
            card = samples.card(shape, name)
            assert Card.from_json(card.to_json()) == card


def test_saving_refuses_what_could_not_be_loaded(tmp_path, weights):
    card = samples.card(JOINT)
    with pytest.raises(InputError, match=r"\.npz"):
        save(tmp_path / "a.bin", weights, card)
    with pytest.raises(InputError, match="finite"):
        save(tmp_path / "a.npz", {**weights, "worker1.bias": np.full(32, np.nan, np.float32)}, card)
    with pytest.raises(InputError, match="no array"):
        save(tmp_path / "a.npz", {}, card)
    with pytest.raises(InputError, match="cannot be written"):
        save(tmp_path / "nowhere" / "a.npz", weights, card)
    wide = {name: np.zeros(size, np.float32) for name, size in checkpoint.sizes_of(replace(card, hidden=2000)).items()}
    with pytest.raises(InputError, match="64 MiB"):
        save(tmp_path / "a.npz", wide, replace(card, hidden=2000))
    assert list(tmp_path.iterdir()) == []


# --- cards ----------------------------------------------------------------------------------------------------------


def test_another_observation_version_is_refused_with_what_to_do(file):
    text = refused(carded(file, observation_version=OBSERVATION_VERSION + 1))
    assert f"observation version {OBSERVATION_VERSION + 1}" in text
    assert f"observes by version {OBSERVATION_VERSION}" in text
    assert "train it again (aladdin train toy.toml)" in text
    assert "0123abc" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"network": "left out"}, "no 'network'"),
        ({"speed": 3}, "'speed'"),
        ({"network": "transformer"}, "choose one of equivariant, mlp"),
        ({"kind": "scaling"}, "its shape is that of 'joint'"),
        ({"kind": "both"}, "choose one of placement"),
        ({"hidden": 0}, "1 to 4096"),
        ({"hidden": 10**9}, "1 to 4096"),
        ({"hidden": "32"}, "whole number"),
        ({"hidden": True}, "whole number"),
        ({"hidden": 16}, "array of (32"),
        ({"slots": 8}, "none for any other"),
        ({"network": "mlp"}, "slots of an MLP"),
        ({"network": "mlp", "slots": 10**9}, "1 to 65536"),
        ({"steps": -1}, "0 or more"),
        ({"steps": 1.5}, "whole number"),
        ({"seeds": 3}, "give a list"),
        ({"seeds": ["a"]}, "whole number"),
        ({"scenarios": [1]}, "give a text"),
        ({"versions": {"numpy": 2}}, "give a text"),
        ({"versions": "2"}, "JSON object"),
        ({"results": {"slo": "high"}}, "card.results.slo"),
        ({"results": {"slo": float("nan")}}, "finite"),
        ({"results": {"slo": 10**400}}, "give a number"),
        ({"date": None}, "give a text"),
        ({"shape": {}}, "card.shape"),
        ({"shape": {**vars(JOINT), "types": 0}}, "1 to 256"),
        ({"shape": {**vars(JOINT), "places": 1}}, "true or false"),
        ({"shape": {**vars(JOINT), "max_change": 10**6}}, "1 to 64"),
        ({"shape": [1]}, "JSON object"),
    ],
    ids=str,
)
def test_wrong_cards_are_refused(file, changes, text):
    refused(carded(file, **changes), text)


@pytest.mark.parametrize("text", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"[" * 100_000, b'"card"', b"null"])
def test_a_card_that_is_no_table_is_refused(file, text):
    refused(rewritten(file, card=np.frombuffer(text, dtype=np.uint8)))


def test_a_card_of_another_type_is_refused(file):
    refused(rewritten(file, card=np.zeros(4)), "without a card")
    refused(rewritten(file, card=None), "without a card")


# --- damaged and hostile files --------------------------------------------------------------------------------------


def test_no_file_and_a_folder(tmp_path):
    refused(tmp_path / "none.npz", "no such file")
    refused(tmp_path, "cannot be read")
    refused(tmp_path / "none.zip", "no such file", read=load_zip)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(100), bytes(range(256)) * 8])
def test_what_is_no_archive(tmp_path, content):
    for name, read in (("a.npz", load), ("a.zip", load_zip)):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "damaged", read=read)


def test_truncated_and_flipped_files(file):
    whole = file.read_bytes()
    for length in range(0, len(whole) - 1, len(whole) // 23):
        file.write_bytes(whole[:length])
        refused(file)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 60).tolist():
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            load(file)  # a byte that nobody reads, such as a date
        except InputError as error:
            assert "\n" not in str(error)


def test_a_single_array_is_no_checkpoint(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", "damaged")


def test_pickled_arrays_are_never_run(tmp_path, file):
    bomb = tmp_path / "bomb"
    refused(rewritten(file, **{"worker1.bias": np.array([Bomb(bomb)] * 32, dtype=object)}), "damaged")
    refused(rewritten_objects(file, "card", Bomb(bomb)), "damaged")
    file.write_bytes(pickle.dumps(Bomb(bomb)))
    refused(file, "damaged")
    assert not bomb.exists()


def rewritten_objects(path: Path, name: str, item: object) -> Path:
    np.savez(path, **{name: np.array([item], dtype=object)})
    return path


def test_missing_unknown_and_wrong_arrays(file, weights):
    original = file.read_bytes()
    for changes, text in (
        ({"score1.weight": None}, "no array 'score1.weight'"),
        ({"more": np.zeros(3, np.float32)}, "no such array"),
        ({"score1.weight": np.zeros((32, 63), np.float32)}, "score1.weight"),
        ({"score1.bias": np.zeros((32, 1), np.float32)}, "score1.bias"),
        ({"score1.bias": np.zeros(32)}, "give float32"),
        ({"score1.bias": np.full(32, np.nan, np.float32)}, "finite"),
        ({"score1.bias": np.full(32, np.inf, np.float32)}, "finite"),
        ({"score1.bias": np.array(["a"] * 32)}, "float32"),
    ):
        file.write_bytes(original)
        refused(rewritten(file, **changes), text)


def test_large_files_are_not_unpacked(tmp_path):
    packed = tmp_path / "a.npz"
    np.savez_compressed(packed, card=np.zeros(65 * 2**20, dtype=np.uint8))
    assert packed.stat().st_size < 2**20
    refused(packed, "64 MiB")
    plain = tmp_path / "b.npz"
    with plain.open("wb") as stream:
        stream.truncate(checkpoint.LIMIT_BYTES + 1)
    refused(plain, "64 MiB")
    refused(plain, "64 MiB", read=load_zip)


def test_an_array_that_claims_to_be_huge(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**14,)})
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("card.npy", header.getvalue())
    refused(path, "damaged")


# --- models of Stable-Baselines3 ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    env = samples.environment_for(JOINT, samples.cluster_of())
    return MaskablePPO(ClusterPolicy, env, n_steps=8, seed=0, device="cpu", policy_kwargs={"shape": JOINT})


def card_for(model) -> Card:
    return card_of(
        model.policy.net, scenarios=["toy"], seeds=[0], steps=10, commit="", command="", results={"cost": 1.0}
    )  # fmt: skip


@pytest.fixture
def packed(tmp_path, model):
    path = tmp_path / "model.zip"
    save_model(path, model, card_for(model))
    return path


def test_a_model_with_its_card_is_read_and_exported(tmp_path, model, packed):
    weights, card = load_zip(packed)
    assert card == card_for(model)
    expected = weights_of(model.policy.net)
    assert weights.keys() == expected.keys()
    assert all((weights[name] == expected[name]).all() for name in expected)
    zip_to_npz(packed, tmp_path / "a.npz")
    export_net(tmp_path / "b.npz", model.policy.net, card)
    for name in ("a.npz", "b.npz"):
        found, found_card = load(tmp_path / name)
        assert found_card == card
        assert all((found[key] == expected[key]).all() for key in expected)


def test_sb3_still_loads_it(model, packed):
    again = MaskablePPO.load(packed, device="cpu")
    expected = weights_of(model.policy.net)
    assert all((array == expected[name]).all() for name, array in weights_of(again.policy.net).items())


def test_a_new_card_takes_the_place_of_the_old(model, packed):
    write_zip_card(packed, replace(card_for(model), steps=99))
    assert load_zip(packed)[1].steps == 99
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist().count(checkpoint.CARD_MEMBER) == 1


def test_saving_a_model_where_that_cannot_be(tmp_path, model):
    with pytest.raises(InputError, match=r"\.zip"):
        save_model(tmp_path / "a.npz", model, card_for(model))
    with pytest.raises(InputError, match="cannot be written"):
        save_model(tmp_path / "nowhere" / "a.zip", model, card_for(model))
    assert list(tmp_path.iterdir()) == []


def replaced(path: Path, member: str, content: bytes | None) -> Path:
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members[member] = content
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            if data is not None:
                new.writestr(name, data)
    return path


def torch_bytes(item: object) -> bytes:
    stream = io.BytesIO()
    torch.save(item, stream)
    return stream.getvalue()


def test_nothing_in_a_model_is_unpickled(tmp_path, packed):
    """Not ``data`` and ``pytorch_variables.pth``, which are not even read, and no object among the tensors."""
    bomb = tmp_path / "bomb"
    replaced(packed, "data", pickle.dumps(Bomb(bomb)))
    replaced(packed, "pytorch_variables.pth", torch_bytes(Bomb(bomb)))
    load_zip(packed)
    for content in (torch_bytes(Bomb(bomb)), torch_bytes({"net.worker1.bias": Bomb(bomb)}), pickle.dumps(Bomb(bomb))):
        refused(replaced(packed, "policy.pth", content), "damaged", read=load_zip)
    assert not bomb.exists()


def test_models_that_are_none_of_ours(packed):
    original = packed.read_bytes()
    state = {f"net.{name}": torch.from_numpy(array) for name, array in load_zip(packed)[0].items()}
    first = next(iter(state))
    huge = torch.zeros(1).expand(10**12)
    for member, content, text in (
        ("aladdin_card.json", None, "without a card"),
        ("aladdin_card.json", b"{", "card"),
        ("policy.pth", None, "no policy.pth"),
        ("policy.pth", torch_bytes([1, 2]), "no table of tensors"),
        ("policy.pth", torch_bytes({"action_net.weight": torch.zeros(3)}), "action_net.weight"),
        ("policy.pth", torch_bytes({**state, first: torch.zeros(3)}), "of (3,)"),
        ("policy.pth", torch_bytes({**state, first: huge}), "1000000000000"),
        ("policy.pth", torch_bytes({**state, first: torch.full_like(state[first], float("nan"))}), "finite"),
        ("policy.pth", torch_bytes({name: state[name] for name in list(state)[1:]}), "no array"),
        ("policy.pth", original[:1000], "damaged"),
    ):
        packed.write_bytes(original)
        refused(replaced(packed, member, content), text, read=load_zip)


def test_a_model_of_another_observation_version(model, packed):
    write_zip_card(packed, replace(card_for(model), observation_version=7))
    refused(packed, "observation version 7", read=load_zip)


def test_without_torch_a_zip_says_what_to_do(monkeypatch, packed):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    refused(packed, "aladdin-env[rl]", ".npz", read=load_zip)
