"""Make the built-in pair from nothing: ``python -m training.make_pair [--work FOLDER] [--into FOLDER]``.

Every stage keeps what it made in the work folder and is skipped when that is there, so an interrupted run goes on.
"""

from __future__ import annotations

from dsdq.threads import share_cores

share_cores()

import argparse
import json
import platform
import shutil
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from training import card, corpus, distill, evaluate, pretrain, shapes, tokens, vocabulary

TARGET_STEPS = 1_200
DRAFT_STEPS = 4_000
WRITTEN_BATCHES = 24
SHARPNESS = 1.25
"""What the target's logits are multiplied by: it then speaks at temperature 1 as a base model does at 0.8."""
BUILTIN = Path(__file__).parents[1] / "dsdq" / "models" / "builtin"


def export(model: LlamaForCausalLM, folder: Path) -> None:
    """Save weights and configuration in bfloat16: half the bytes, and both sides widen the same numbers."""
    model.generation_config.bos_token_id = vocabulary.BOS_ID
    model.generation_config.eos_token_id = vocabulary.EOS_ID
    model.to(torch.bfloat16).save_pretrained(folder)


def sharpened(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Scale the logits, by way of the last norm: tuned models are surer than what next-token prediction leaves."""
    with torch.no_grad():
        model.model.norm.weight.mul_(SHARPNESS)
    return model


def rounded(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Return the model as it will be loaded: the draft must learn what the shipped target says."""
    return model.to(torch.bfloat16).to(torch.float32).eval()


def main() -> None:
    """Run every stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/pair"))
    parser.add_argument("--into", type=Path, default=BUILTIN)
    arguments = parser.parse_args()
    work, into = arguments.work, arguments.into
    tokenizer = tokens.prepare(work)
    target = rounded(sharpened(pretrain.pretrain(work, TARGET_STEPS)))
    draft = distill.distill(target, work, DRAFT_STEPS, WRITTEN_BATCHES)
    for role, model in (("target", target), ("draft", draft)):
        export(model, into / role)
        vocabulary.save(tokenizer, into / role, shapes.CONTEXT_TOKENS)
    (into / "prompts.json").write_text(json.dumps(evaluate.prompts(tokenizer), indent=1) + "\n")
    made = {
        "made_with": f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}",
        "target_sharpness": SHARPNESS,
        "target_tokens_seen": TARGET_STEPS * pretrain.BATCH * pretrain.LENGTH,
        "draft_tokens_seen": DRAFT_STEPS * distill.BATCH * distill.LENGTH,
    }
    facts = evaluate.facts(into, tokenizer, work) | {"training": made}
    (into / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")
    (into / "MODEL_CARD.md").write_text(card.write(facts))
    shutil.copy(corpus.library() / "LICENSE.txt", into / "LICENSE.psf")


if __name__ == "__main__":
    main()
