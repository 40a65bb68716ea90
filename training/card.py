"""The model card, written from what was measured, so that it cannot say anything else."""

from __future__ import annotations

from typing import Any

from training import corpus, distill, pretrain, shapes

CARD = """\
# The built-in pair

Two Llamas with one tokenizer, small enough to ship and real enough to measure with: `target` decides, `draft`
proposes. They continue Python source text. They know nothing else, follow no instructions, and are not for
production text.

| | target | draft |
|---|---|---|
| shape | {target_shape} | {draft_shape} |
| parameters | {target_parameters:,} | {draft_parameters:,} |
| file (bfloat16) | {target_bytes:,} bytes | {draft_bytes:,} bytes |
| held-out loss, nats per token | {target_loss:.3f} | {draft_loss:.3f} |
| tokens seen in training | {target_tokens:,} | {draft_tokens:,} |

**Acceptance of a drafted token** on the target's own continuations of prompts that were kept apart:
**{t1:.1%}** at T=1 under the coupled rule (1 - TV, what the ratio test would reach: {overlap:.1%}),
{greedy:.1%} greedy.

**Time per token**, one at a time, two cores of the machine that made them: target {target_engine:.2f} ms in
dsdq's engine and {target_hf:.2f} ms in Hugging Face transformers, draft {draft_step:.3f} ms in dsdq's own
step: {ratio:.1f} to 1 against transformers.

## Data and licence

The `.py` files of the standard library that comes with the interpreter ({made_with}), without encodings,
bundled packages and tables of numbers. One file in {one_in}, chosen by a hash of its name, is held out:
losses, acceptance and `prompts.json` come from those. The data is under the PSF licence (`LICENSE.psf`); the
weights are under the project's own.

## How they were made

`python -m training.make_pair` makes both again from nothing: a byte-level BPE of 2,048 entries; the target by
next-token prediction ({length} tokens a window, {batch} windows a batch, Muon and AdamW), its logits then
multiplied by {sharpness} by way of the last norm, so that it speaks at T=1 as the plain model does at
T={softness:.1f} (tuned models are that much surer); the draft on the result, half on the library's text and half
on text that the target wrote itself at T=1. Weights are rounded to bfloat16 before they are measured; both sides widen
them to float32.
"""


def _shape(config: Any) -> str:  # noqa: ANN401 - transformers is untyped
    return f"{config.num_hidden_layers} layers of {config.hidden_size}, {config.num_attention_heads} heads"


def write(facts: dict[str, Any]) -> str:
    """Return the card for a pair's facts."""
    target, draft = facts["target"], facts["draft"]
    times, rate, made = facts["milliseconds_per_token"], facts["acceptance"], facts["training"]
    return CARD.format(
        target_shape=_shape(shapes.target()),
        draft_shape=_shape(shapes.draft()),
        target_parameters=target["parameters"],
        draft_parameters=draft["parameters"],
        target_bytes=target["bytes"],
        draft_bytes=draft["bytes"],
        target_loss=target["validation_loss"],
        draft_loss=draft["validation_loss"],
        target_tokens=made["target_tokens_seen"],
        draft_tokens=made["draft_tokens_seen"],
        t1=rate["t1"],
        overlap=rate["one_minus_tv"],
        greedy=rate["greedy"],
        target_engine=times["target_engine"],
        target_hf=times["target_hugging_face"],
        draft_step=times["draft_step"],
        ratio=times["target_hugging_face"] / times["draft_step"],
        made_with=made["made_with"],
        one_in=corpus.HELD_OUT_ONE_IN,
        sharpness=made["target_sharpness"],
        softness=1 / made["target_sharpness"],
        length=pretrain.LENGTH,
        batch=max(pretrain.BATCH, distill.BATCH),
    )
