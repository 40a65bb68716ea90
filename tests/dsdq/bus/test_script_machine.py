"""The scripts do what the model says, whatever happens in whatever order; and the model notices when one does not."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from dsdq.bus import scripts
from dsdq.errors import DsdqError
from tests.dsdq.bus.script_machine import ScriptMachine


def machine_on(server: str) -> type[ScriptMachine]:
    class Machine(ScriptMachine):
        url = server

    return Machine


def test_the_scripts_do_what_the_model_says(redis_server: str) -> None:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    chosen = settings(max_examples=25, stateful_step_count=30, suppress_health_check=slow)
    run_state_machine_as_test(machine_on(redis_server), settings=chosen)


EPOCH_CHECK = "head[1] ~= ARGV[2] or head[2] ~= ARGV[3]"
END_CHECK = "head[3] ~= ARGV[4] or head[4] ~= ARGV[5]"


@pytest.mark.parametrize("program", ["bundled"], indirect=True)  # what the model notices is no matter of the server
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("commit", EPOCH_CHECK, "false"),
        ("commit", END_CHECK, "false"),
        ("takeover", "head[3] ~= ARGV[1] and head[3] ~= ARGV[2]", "false"),
        ("settle", "== 1 then", ">= 0 then"),
        ("publish", "+ #ARGV[1] > bytes", "> bytes"),
        ("open", "if owner then", "if false then"),
    ],
    ids=["a stale owner", "another end", "another's session", "settled twice", "too many bytes", "opened twice"],
)
def test_the_model_notices_a_script_that_lets_through(
    name: str, right: str, wrong: str, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Callable[[str], tuple[str, str]] = scripts._source
    text = source(name)[0]
    assert text.count(right) == 1
    broken = text.replace(right, wrong)
    found = (broken, sha1(broken.encode()).hexdigest())  # noqa: S324 - the name that Redis gives a script
    monkeypatch.setattr(scripts, "_source", lambda asked: found if asked == name else source(asked))
    chosen = settings(
        max_examples=1000,  # most often within a hundred
        stateful_step_count=40,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    # Whatever it breaks first; what depends on the time of the server's ids need not come twice.
    with pytest.raises((AssertionError, DsdqError, Flaky)):
        run_state_machine_as_test(machine_on(redis_server), settings=chosen)
