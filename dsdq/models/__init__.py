"""Names, tokenizers and target models. ``names`` and ``tokenizer`` need no torch; ``target`` does."""
