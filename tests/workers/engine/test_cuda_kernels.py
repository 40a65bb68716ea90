from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton, which the CUDA kernels are written in, is not installed")

SCRIPT = Path(__file__).with_name("compile_kernels.py")
ROOT = SCRIPT.parents[3]


@pytest.mark.parametrize(("capability", "shared_bytes"), [(80, 166_912), (90, 232_448)])
def test_kernels_compile_for_a_gpu_within_its_shared_memory(capability: int, shared_bytes: int, tmp_path: Path) -> None:
    """The interpreter takes what the compiler refuses; compiling needs no GPU."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, SCRIPT, str(capability), str(shared_bytes)],
        env={**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    kernels = json.loads(done.stdout)
    assert all(kernel["shared"] <= shared_bytes for kernel in kernels), kernels
    attending = [kernel for kernel in kernels if kernel["kernel"] == "attend_split"]
    assert all(kernel["tensor_cores"] for kernel in attending), attending
    if capability == 90:  # Hopper's own instruction takes 64 rows and more
        assert all(kernel["wgmma"] == (kernel["rows"] >= 64) for kernel in attending), attending
