from __future__ import annotations

import json
from unittest.mock import AsyncMock, Mock

import dsdq
from producers.device.command import _summary
from producers.device.generation import DeviceGeneration


def test_json_has_the_log_probabilities_of_every_token() -> None:
    likely = dsdq.Token(5, "a", dsdq.TokenKind.TARGET, -0.5, ((5, -0.5), (7, -1.5)))
    running = DeviceGeneration(AsyncMock(), Mock(), Mock())
    shown = json.loads(json.dumps(_summary("p", [likely], running)))
    assert shown["logprobs"] == [{"id": 5, "text": "a", "logprob": -0.5, "top": [[5, -0.5], [7, -1.5]]}]
    assert _summary("p", [dsdq.Token(5, "a", dsdq.TokenKind.TARGET)], running)["logprobs"] is None
