from __future__ import annotations

from dsdq.bus import scripts
from dsdq.testing import unfenced


def test_only_the_fence_of_commit_is_left_out() -> None:
    text, name = unfenced.source("commit")
    whole, whole_name = scripts._source("commit")
    assert name != whole_name
    assert "FENCED" in whole
    assert text == whole.replace(unfenced.FENCE, "")
    assert unfenced.source("publish") == scripts._source("publish")
