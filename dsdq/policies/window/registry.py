"""Window policies by name, with parameters behind colons: ``static:4``, ``threshold:0.4``, ``optimal``."""

from __future__ import annotations

from collections.abc import Callable

from dsdq.errors import ConfigError
from dsdq.policies.window import awc, awc_paper
from dsdq.policies.window.optimal import Optimal
from dsdq.policies.window.protocol import MAX_DEPTH, Mode, Offer, WindowPolicy
from dsdq.policies.window.simple import Backoff, Static, Streaming, Threshold

DEFAULT_POLICY = "optimal"

_USAGE = {
    "static": "static[:WINDOW[:DEPTH]]",
    "threshold": "threshold[:CONFIDENCE[:DEPTH]]",
    "backoff": "backoff[:DEPTH]",
    "optimal": "optimal",
    "awc": "awc[:paper[:target-only|:co-located]]",
    "target-only": "target-only",
    "co-located": "co-located[:WINDOW]",
}


def load_policy(spec: str, offer: Offer) -> WindowPolicy:
    """Return a new policy for one session, within what is on offer.

    Raises:
        ConfigError: there is no such policy, a parameter is not what was expected, ``awc`` is untrained, or the mode
            that is asked for is not on offer.
    """
    name, *parameters = spec.split(":")
    if name not in POLICIES:
        msg = f"window policy: expected one of {', '.join(_USAGE.values())}, got {spec!r}"
        raise ConfigError(msg)
    return POLICIES[name](parameters, offer)


def _static(parameters: list[str], offer: Offer) -> WindowPolicy:
    _at_most("static", parameters, 2)
    window = _integer("static", "WINDOW", parameters[:1], offer.max_window, min(4, offer.max_window))
    return Static(window, _depth("static", parameters[1:], offer))


def _threshold(parameters: list[str], offer: Offer) -> WindowPolicy:
    _at_most("threshold", parameters, 2)
    text = parameters[0] if parameters else "0.4"
    try:
        confidence = float(text)
    except ValueError:
        confidence = -1.0
    if not 0 <= confidence <= 1:
        raise _unexpected("threshold", "CONFIDENCE", "0 to 1", text)
    return Threshold(confidence, offer.max_window, _depth("threshold", parameters[1:], offer))


def _backoff(parameters: list[str], offer: Offer) -> WindowPolicy:
    _at_most("backoff", parameters, 1)
    return Backoff(offer, _depth("backoff", parameters, offer))


def _optimal(parameters: list[str], offer: Offer) -> WindowPolicy:
    _at_most("optimal", parameters, 0)
    return Optimal(offer)


def _awc(parameters: list[str], offer: Offer) -> WindowPolicy:
    _at_most("awc", parameters, 2)
    if not parameters:
        return awc.Awc(awc.trained(), offer)
    if parameters[0] != "paper":
        raise _unexpected("awc", "variant", "paper", parameters[0])
    fused = {"target-only": Mode.TARGET_ONLY, "co-located": Mode.COLOCATED}
    text = parameters[1] if len(parameters) > 1 else "target-only"
    if text not in fused:
        raise _unexpected("awc", "fused mode", "target-only or co-located", text)
    return awc_paper.PaperAwc(awc_paper.trained(), offer, fused[text])


def _target_only(parameters: list[str], offer: Offer) -> WindowPolicy:
    _at_most("target-only", parameters, 0)
    return Streaming(_offered(Mode.TARGET_ONLY, offer))


def _colocated(parameters: list[str], offer: Offer) -> WindowPolicy:
    _at_most("co-located", parameters, 1)
    window = _integer("co-located", "WINDOW", parameters, offer.max_window, offer.max_window)
    return Streaming(_offered(Mode.COLOCATED, offer), window)


def _offered(mode: Mode, offer: Offer) -> Mode:
    if mode not in offer.modes:
        offered = ", ".join(sorted(offer.modes))
        msg = (
            f"window policy {mode}: expected a mode that is on offer here ({offered}); a verifier drafts itself under "
            "the coupled rule, if it was started with --colocated-draft"
        )
        raise ConfigError(msg)
    return mode


POLICIES: dict[str, Callable[[list[str], Offer], WindowPolicy]] = {
    "static": _static,
    "threshold": _threshold,
    "backoff": _backoff,
    "optimal": _optimal,
    "awc": _awc,
    "target-only": _target_only,
    "co-located": _colocated,
}


def _depth(name: str, parameters: list[str], offer: Offer) -> int:
    """Return the depth asked for; one that is not on offer is lowered, since it changes speed only."""
    return min(_integer(name, "DEPTH", parameters, MAX_DEPTH, 1), offer.max_depth)


def _integer(name: str, what: str, parameters: list[str], most: int, default: int) -> int:
    if not parameters:
        return default
    text = parameters[0]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise _unexpected(name, what, f"1 to {most}", text)
    return int(text)


def _at_most(name: str, parameters: list[str], most: int) -> None:
    if len(parameters) > most:
        msg = f"window policy: expected {_USAGE[name]}, got {':'.join([name, *parameters])!r}"
        raise ConfigError(msg)


def _unexpected(name: str, what: str, expected: str, came: str) -> ConfigError:
    return ConfigError(f"window policy {name}: expected {what} of {expected}, got {came!r} ({_USAGE[name]})")
