"""Tokens of text and back, and answers that follow from their prompts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aladdin_env.bridge.emulator.text import LARGEST_TOKEN, WORDS, Continuation, Tokens

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


@given(TEXTS)
def test_text_comes_back_whole(text: str) -> None:
    tokens = Tokens.of_text(text)
    assert tokens.text == text
    assert Tokens.of_ids(tokens.ids) == tokens
    assert len(tokens) == len(tokens.ids) == -(-len(text.encode()) // 4)


@given(st.lists(st.integers(0, LARGEST_TOKEN)))
def test_ids_come_back(ids: list[int]) -> None:
    assert Tokens.of_ids(ids).ids == ids


def test_half_a_character_is_no_mistake() -> None:
    assert Tokens.of_text("a\ud800b").text == "a?b"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.lists(st.integers(0, 5), max_size=40))
def test_a_block_stands_for_all_before_it(one: list[int], other: list[int]) -> None:
    ours, theirs = Tokens.of_ids(one).blocks(4), Tokens.of_ids(other).blocks(4)
    assert len(ours) == len(one) // 4
    for i, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        assert (a == b) == (one[: 4 * i + 4] == other[: 4 * i + 4])


@given(TEXTS, st.integers(0, 300), st.integers(0, 300))
def test_an_answer_can_be_told_from_anywhere(prompt: str, start: int, count: int) -> None:
    tokens = Tokens.of_text(prompt)
    whole = Continuation(tokens).words(0, 600)
    assert Continuation(tokens).words(start, start + count) == whole[start : start + count]
    assert set(whole) <= set(WORDS)


def test_words_are_tokens() -> None:
    assert len(set(WORDS)) == 64
    assert all(len(Tokens.of_text(word)) == 1 for word in WORDS)
    assert "".join(WORDS).replace(" ", "").isascii()


def test_other_prompts_other_answers() -> None:
    answers = {tuple(Continuation(Tokens.of_text(str(i))).words(0, 20)) for i in range(200)}
    assert len(answers) == 200


@pytest.mark.parametrize("mean", [1.0, 2.0, 256.0])
def test_lengths_have_the_mean_that_is_asked_for(mean: float) -> None:
    lengths = [Continuation(Tokens.of_ids([i]), seed=3).natural_length(mean) for i in range(20_000)]
    assert min(lengths) >= 1
    assert np.mean(lengths) == pytest.approx(mean, rel=0.03)
    assert np.std(lengths) == pytest.approx(np.sqrt(mean * (mean - 1)), rel=0.05)
