from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq import keys
from dsdq.errors import ConfigError

OF_WORKER = (keys.worker_state, keys.worker_sessions, keys.worker_tries, keys.worker_figures)


def slot_of(key: str) -> str:
    found = re.search(r"\{([^}]+)\}", key)
    assert found is not None
    return found.group(1)


def test_what_one_script_touches_lies_in_one_slot() -> None:
    session = ("phone-1", "acme", "01j")
    of_session = (keys.session_log(*session), keys.session_head(*session), keys.feed(*session[:2]))
    of_worker = (keys.inbox("w1", "acme"), *(make("w1") for make in OF_WORKER))
    assert {slot_of(key) for key in of_session} == {"p.phone-1"}
    assert {slot_of(key) for key in of_worker} == {"w.w1"}
    assert slot_of(keys.workers("a/b")) == slot_of(keys.worker_infos("a/b"))


def test_fresh_names_are_short_names_and_never_the_same() -> None:
    found = {keys.fresh_name() for _ in range(1_000)}
    assert len(found) == 1_000
    assert all(keys.NAME.fullmatch(name) and len(name) == 16 for name in found)


@pytest.mark.parametrize("name", ["", "A", "a:b", "a}b", "a b", "a" * 65, "ä", "a\n"])
def test_a_name_that_could_break_out_of_a_key_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name"):
        keys.inbox("w1", name)


@given(st.text(min_size=1), st.text(min_size=1))
def test_models_of_different_names_never_share_a_key(one: str, other: str) -> None:
    assert (keys.workers(one) == keys.workers(other)) == (one == other)
    assert re.fullmatch(r"\{m\.[a-z0-9-]+\}:workers", keys.workers(one))
