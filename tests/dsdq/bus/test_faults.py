"""Which errors are worth another try. Texts are those of real servers."""

from __future__ import annotations

import ssl

import pytest
from redis import exceptions

from dsdq.bus.connection import translated
from dsdq.bus.faults import code_of, fault_of
from dsdq.errors import DeniedError, GoneError, RedisUnavailableError

SCRIPT = "Error running script (call to f_6abd): @user_script:1: @user_script: 1: "


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM"),
        (exceptions.ResponseError(SCRIPT + "-OOM command not allowed when used memory > 'maxmemory'."), "OOM"),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), "READONLY"),
        (exceptions.ResponseError(SCRIPT + "-READONLY You can't write against a read only replica."), "READONLY"),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING"),
        (exceptions.ClusterDownError("Hash slot not served"), "CLUSTERDOWN"),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), "MISCONF"),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
        (exceptions.ResponseError("BUSY Redis is busy running a script."), "BUSY"),
        (exceptions.ResponseError("NEWCODE something that nobody knows yet"), "NEWCODE"),
    ],
)
def test_a_server_that_cannot_now_is_worth_another_try(error: Exception, code: str) -> None:
    assert code_of(error) == code
    assert isinstance(fault_of(error), RedisUnavailableError)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.AuthenticationError("Authentication required."), "NOAUTH"),
        (exceptions.AuthenticationError("invalid username-password pair or user is disabled."), "WRONGPASS"),
        (exceptions.NoPermissionError("this user has no permissions to run the 'hset' command"), "NOPERM"),
        (exceptions.ResponseError(SCRIPT + "The user executing the script can't run this command"), "NOPERM"),
        (exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), "WRONGTYPE"),
        (exceptions.ResponseError("MOVED 1234 127.0.0.1:7000"), "MOVED"),
        (exceptions.ResponseError("unknown command 'XADD'"), "ERR"),
    ],
)
def test_a_server_that_will_never_is_not(error: Exception, code: str) -> None:
    assert code_of(error) == code
    assert isinstance(fault_of(error), DeniedError)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("Connection closed by server."),
        exceptions.TimeoutError("Timeout reading from h:6379"),
        exceptions.RedisClusterException("Redis Cluster cannot be connected."),
        exceptions.SlotNotCoveredError('Slot "3" not covered by the cluster.'),
        exceptions.ClusterError("TTL exhausted."),
        ConnectionResetError("reset"),
        TimeoutError(),
        FileNotFoundError("no such socket"),
    ],
)
def test_nothing_of_the_way_to_the_server_leaks(error: Exception) -> None:
    with pytest.raises(RedisUnavailableError), translated():
        raise error


def test_what_the_library_wrapped_is_found() -> None:
    denied = exceptions.RedisClusterException("Redis Cluster cannot be connected.")
    denied.__cause__ = exceptions.NoPermissionError("no permissions to run 'cluster|slots'")
    untrusted = exceptions.ConnectionError("Error 1 connecting to h:6379.")
    untrusted.__context__ = ssl.SSLCertVerificationError("certificate verify failed")
    assert isinstance(fault_of(denied), DeniedError)
    assert isinstance(fault_of(untrusted), DeniedError)


def test_an_inbox_without_its_group_is_gone() -> None:
    assert isinstance(fault_of(exceptions.ResponseError("NOGROUP No such key '{w.w1}:in:acme'")), GoneError)


def test_the_command_of_a_pipeline_is_not_shown() -> None:
    text = "Command # 1 (XADD x * m payload) of pipeline caused error: ('WRONGTYPE Operation against a key',)"
    fault = fault_of(exceptions.ResponseError(text))
    assert isinstance(fault, DeniedError)
    assert "payload" not in str(fault)
