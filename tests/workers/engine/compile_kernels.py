"""Compile the attention kernels for a GPU that need not be there, and print what each takes as a JSON list.

    TRITON_INTERPRET=0 python compile_kernels.py 90 232448

The arguments are the compute capability without its point and the shared memory of one program in bytes. A process of
its own, because Triton decides when it is imported whether it compiles or interprets.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from dsdq.policies.paging import BLOCK
from workers.engine import cuda_attention, cuda_kernels
from workers.engine.cuda_step import Tiling, build_step
from workers.engine.rows import pack

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
INTEGERS = {"slots": "*i64", "positions": "*i32", "tiles": "*i32", "tables": "*i32"}
# type, head size, query heads a key head, window, softcap, sinks, queries a tile
CASES = [
    (torch.bfloat16, 128, 4, None, None, False, 16),
    (torch.bfloat16, 256, 8, 4096, 50.0, False, 16),
    (torch.float16, 80, 7, None, None, False, 16),
    (torch.bfloat16, 64, 1, 128, None, True, 64),
    (torch.float32, 128, 4, None, None, False, 16),
    (torch.float32, 256, 2, 512, 50.0, False, 16),
]


def compiled(kernel: Any, dtype: str, target: GPUTarget, constants: dict[str, Any], **options: int) -> dict[str, Any]:
    signature = {}
    for name in kernel.arg_names:
        number = "fp32" if name == "scale" else "i32" if name.endswith("stride") else None
        number = "i32" if name in {"tokens", "table_width"} else number
        pointer = "*fp32" if name in {"sums", "stats"} else INTEGERS.get(name, f"*{dtype}")
        signature[name] = "constexpr" if name in constants else number or pointer
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*") or name.endswith("stride")
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    binary = triton.compile(source, target=target, options=options)
    return {
        "kernel": kernel.__name__,
        "shared": binary.metadata.shared,
        "tensor_cores": "mma" in binary.asm["ptx"],
        "rows": constants.get("rows"),
        "type": dtype,
        "wgmma": "wgmma" in binary.asm["ptx"],
    }


def compile_case(target: GPUTarget, case: tuple[Any, ...]) -> list[dict[str, Any]]:
    dtype, dim, group, window, softcap, sinks, tile_tokens = case
    step = build_step(pack([]), "cpu", tokens=16, rows=4, blocks=9, tiling=Tiling(tile_tokens))
    query = torch.empty((16, 8 * group, dim), dtype=dtype, device="meta")
    pool = torch.empty((4, BLOCK, 8, dim), dtype=dtype, device="meta")
    plan = cuda_attention._plan(query, pool, pool, step)
    split = {
        **plan.shape, "group": group, "packed": plan.packed, "chunks": plan.chunks, "rows": plan.rows, "block": BLOCK,
        "split_blocks": 8, "window": window, "softcap": softcap, "widen": plan.widen,
    }  # fmt: skip
    join = {
        "heads": 8 * group, "value_dim": dim, "value_width": plan.shape["value_width"], "chunk": 8,
        "split_tokens": 512, "window": window, "has_sinks": sinks,
    }  # fmt: skip
    options = {"num_warps": plan.warps, "num_stages": plan.stages}
    return [
        compiled(cuda_kernels.store, NAMES[dtype], target, {**plan.shape, "heads_width": 8}),
        compiled(cuda_kernels.attend_split, NAMES[dtype], target, split, **options),
        compiled(cuda_kernels.join_splits, NAMES[dtype], target, join),
    ]


if __name__ == "__main__":
    capability, shared = (int(argument) for argument in sys.argv[1:])
    cuda_attention._shared_bytes = lambda _: shared
    gpu = GPUTarget("cuda", capability, 32)
    print(json.dumps([kernel for case in CASES for kernel in compile_case(gpu, case)]))
