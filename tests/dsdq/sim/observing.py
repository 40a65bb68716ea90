"""Traces of simulated devices, as a live device would write them."""

from __future__ import annotations

from dsdq.sim.messages import Verdict
from dsdq.sim.observed import Answer, Observed
from dsdq.sim.record import FINISHED, Request
from dsdq.sim.run import begin
from dsdq.sim.scenario.model import Scenario


def observed(scenario: Scenario, policy: str, rtt_ms: float | None = None) -> list[Observed]:
    """Simulate a scenario under a policy, at a round trip if it is given, and return its finished texts."""
    devices = scenario.devices["live"]
    if rtt_ms is not None:
        devices = devices.model_copy(update={"link": devices.link.model_copy(update={"rtt_ms": rtt_ms})})
    window = scenario.window.model_copy(update={"policy": policy})
    world = begin(scenario.model_copy(update={"devices": {"live": devices}, "window": window}))
    answers: dict[int, list[Answer]] = {}
    read = world.record.read

    def _reading(request: Request, verdict: Verdict, waited_ms: float, now_ms: float) -> None:
        answers.setdefault(request.number, []).append(_answer(request, verdict, waited_ms, now_ms))
        read(request, verdict, waited_ms, now_ms)

    world.record.read = _reading  # type: ignore[method-assign]
    world.kernel.run()
    return [
        Observed(
            policy=policy,
            prompt=one.prompt,
            device=one.device,
            text=one.number,
            rtt_ms=devices.link.rtt_ms,
            jitter_ms=devices.link.jitter_ms,
            max_window=window.max_window,
            max_depth=window.max_depth,
            max_tokens=one.output,
            ttft_ms=one.first_ms - one.arrival_ms,
            drafted=one.drafted,
            draft_ms=one.draft_ms,
            bytes_down=round(one.bytes_down),
            answers=tuple(answers[one.number]),
        )
        for one in world.record.requests
        if one.outcome == FINISHED
    ]


def _answer(request: Request, verdict: Verdict, waited_ms: float, now_ms: float) -> Answer:
    return Answer(
        at_ms=now_ms - request.arrival_ms,
        kinds=kinds(verdict.accepted, verdict.drafted, verdict.committed),
        judged=verdict.drafted,
        mode=verdict.choice.mode,
        waited_ms=waited_ms,
        queue_ms=max(verdict.queue_ms, 0.0),
        verify_ms=verdict.verify_ms,
        rows=verdict.batch_rows,
    )


def kinds(accepted: int, drafted: int, committed: int) -> str:
    """Return the letters of a verdict's tokens, as the live device names them."""
    last = "t" if not drafted else "b" if accepted == drafted else "c"
    return "a" * accepted + last * (committed - accepted)
