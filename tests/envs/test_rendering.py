"""Pictures and texts of a cluster."""

import gymnasium as gym
import numpy as np
import pytest

from aladdin_env.envs import rendering
from aladdin_env.errors import InputError


@pytest.mark.parametrize("kind", ["elastic", "split", "failing"])
def test_picture_shows_the_state(kind, scenario):
    env = gym.make("aladdin/Joint-v0", scenario=scenario(kind), render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    for _ in range(150):
        env.step(env.action_space.sample())
    later = env.render()
    assert first.shape == later.shape == (560, 1000, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, later)
    ready = tuple(int(rendering.COLOURS[2][i : i + 2], 16) for i in (1, 3, 5))
    assert (later == ready).all(axis=2).sum() > 500


def test_text(scenario):
    env = gym.make("aladdin/Joint-v0", scenario=scenario("elastic"), render_mode="ansi")
    env.reset(seed=0)
    env.step(1)
    lines = env.render().splitlines()
    assert lines[0].startswith("elastic: ") and "GPUs in use 3" in lines[0]
    assert lines[1].startswith("last: place on slot 1 (reward -0.0")
    assert [line.split()[:3] for line in lines[3:6]] == [["0", "a", "ready"], ["1", "a", "ready"], ["4", "b", "ready"]]
    assert lines[-1] == "4 of 7 slots are off"
    assert max(map(len, lines[1:])) < 100


def test_vector_environments_draw_too(scenario):
    envs = gym.make_vec("aladdin/Placement-v0", 2, scenario=scenario(), render_mode="ansi")
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    assert all("slot type" in text for text in envs.render())
    with pytest.raises(InputError, match="render_mode"):
        gym.make_vec("aladdin/Placement-v0", 2, scenario=scenario(), render_mode="human")


def test_no_window_without_a_display(scenario, monkeypatch):
    monkeypatch.setattr(rendering, "has_display", lambda: False)
    with pytest.raises(InputError, match="no display here: use 'rgb_array' or 'ansi'"):
        gym.make("aladdin/Placement-v0", scenario=scenario(), render_mode="human")
    env = gym.make("aladdin/Placement-v0", scenario=scenario())
    assert env.unwrapped.metadata["render_modes"] == ["rgb_array", "ansi"]
    assert "human" in type(env.unwrapped).metadata["render_modes"]


def test_window(scenario, monkeypatch):
    """With a backend that opens no window, the drawing itself."""
    monkeypatch.setattr(rendering, "require_display", lambda: None)
    monkeypatch.setattr(rendering.Window, "_raise", lambda self: None)
    env = gym.make("aladdin/Placement-v0", scenario=scenario(), render_mode="human")
    env.reset(seed=0)
    env.step(0)
    window = env.unwrapped._window
    assert window._image.get_array().shape == (560, 1000, 3)
    env.close()
    env.close()
    assert env.unwrapped._window is None


def test_unknown_mode(scenario):
    from aladdin_env.envs import PlacementEnv

    with pytest.raises(InputError, match="choose one of"):
        PlacementEnv(scenario=scenario(), render_mode="rgb")
