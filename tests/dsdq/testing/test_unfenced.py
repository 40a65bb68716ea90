from __future__ import annotations

from dsdq.bus import scripts
from dsdq.testing import unfenced


def test_only_the_fences_of_commit_are_left_out() -> None:
    text, name = unfenced.source("commit")
    whole, whole_name = scripts._source("commit")
    assert name != whole_name
    assert len(text) == len(whole) - sum(map(len, unfenced.FENCES))
    for word in ("FENCED", "BEHIND"):
        assert f'return "{word}"' in whole
        assert f'return "{word}"' not in text
    assert unfenced.source("publish") == scripts._source("publish")
