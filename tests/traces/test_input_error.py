"""The error of a user's mistake and the checks that raise it."""

import pickle

import numpy as np
import pytest

from aladdin_traces import InputError, checks, inside, suggest


def test_message_is_one_line_with_field_value_and_mend() -> None:
    error = InputError("rate\nrps", "a\nb", "give a\u2028number")
    assert str(error) == "rate rps: 'a\\nb' is not valid; give a number"
    assert (error.field, error.value, error.mend) == ("rate\nrps", "a\nb", "give a\u2028number")
    assert isinstance(error, ValueError)


def test_long_values_are_cut_and_numpy_numbers_look_plain() -> None:
    assert len(str(InputError("x", "a" * 5000, "shorten it"))) < 320
    assert str(InputError("x", np.float64(-1), "mend")) == "x: -1.0 is not valid; mend"


def test_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(InputError("x", 1, "mend")))
    assert str(copy) == "x: 1 is not valid; mend"


def test_suggest() -> None:
    assert suggest("Poison", ["poisson", "gamma"]) == "did you mean 'poisson'?"
    assert suggest("zzz", ["poisson", "gamma"]) == "choose one of poisson, gamma"


def test_inside_prefixes_the_field() -> None:
    with pytest.raises(InputError, match=r"^arrivals\.rate_rps: -1 "), inside("arrivals"):
        raise InputError("rate_rps", -1, "mend")


@pytest.mark.parametrize("value", [True, np.True_, "1", None, float("nan"), float("inf"), 10**400, 0, -1, 11, 1j])
def test_number_refuses(value: object) -> None:
    with pytest.raises(InputError, match=r"x: .* number > 0 and <= 10"):
        checks.number("x", value, above=0.0, high=10.0)


def test_number_returns_a_plain_float() -> None:
    for value in (2, np.float32(2), np.int64(2)):
        assert type(checks.number("x", value)) is float


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 2**31])
def test_whole_refuses(value: object) -> None:
    with pytest.raises(InputError, match=r"x: .* whole number from 1 to"):
        checks.whole("x", value, low=1, high=checks.TOKENS_MAX)


@pytest.mark.parametrize("value", ["12", b"12", 3, None, [], {}, np.array(3.0)])
def test_lists_refuse(value: object) -> None:
    with pytest.raises(InputError, match="at least one element"):
        checks.numbers("x", value)


def test_lists_name_the_element() -> None:
    with pytest.raises(InputError, match=r"x\[1\]: -2"):
        checks.wholes("x", np.array([1, -2]), low=0, high=5)
