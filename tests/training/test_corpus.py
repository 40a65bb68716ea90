from __future__ import annotations

from itertools import islice

import numpy as np

from training import corpus, tokens, vocabulary


def test_a_file_is_on_one_side_for_ever_and_about_one_in_fifty_is_held_out() -> None:
    names = [f"package/module_{number}.py" for number in range(5000)]
    held_out = [name for name in names if corpus.is_held_out(name)]
    assert held_out == [name for name in names if corpus.is_held_out(name)]
    assert 60 < len(held_out) < 140


def test_both_sides_are_text_and_have_no_file_in_common() -> None:
    trained, kept = (set(islice(corpus.texts(held_out=side), 10)) for side in (False, True))
    assert trained
    assert kept
    assert not trained & kept


def test_the_tokenizer_gives_every_text_back_and_indentation_is_one_token() -> None:
    texts = list(islice(corpus.texts(held_out=True), 5))
    tokenizer = vocabulary.train(texts)
    for text in (*texts, "Zwölf 🦊\n\t x"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode("\n    ").ids) == 1
    ids = tokens.encode(tokenizer, texts)
    assert (ids == vocabulary.BOS_ID).sum() == (ids == vocabulary.EOS_ID).sum() == len(texts)
    assert ids.max() < vocabulary.SIZE


def test_windows_are_what_the_seed_says() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    rows = tokens.windows(ids, 4, 10, np.random.default_rng(3))
    assert rows.shape == (4, 11)
    assert (rows.diff(dim=1) == 1).all()
    assert (rows == tokens.windows(ids, 4, 10, np.random.default_rng(3))).all()
