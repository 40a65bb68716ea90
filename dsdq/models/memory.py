"""Whether a model's weights fit, said before hours of download or an operating system's kill."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dsdq.errors import ModelError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def check_room(name: str, weights_bytes: int, free_bytes: int, where: str) -> None:
    """Return when weights of ``weights_bytes`` fit into ``free_bytes``.

    Raises:
        ModelError: they do not; the message has both figures and says ``where``.
    """
    if weights_bytes > free_bytes:
        msg = (
            f"model {name!r}: not enough memory: its weights take at least {_gib(weights_bytes)}, {_gib(free_bytes)} "
            f"are free on {where}; use a smaller dtype, --quantization, more GPUs, or a smaller model"
        )
        raise ModelError(msg)


def free_on(place: torch.device, *, all_gpus: bool = False) -> int:
    """Return the free bytes of a device, or of all GPUs of its kind together."""
    if place.type != "cuda":
        return free_main_memory()
    count = torch.cuda.device_count()
    places = [torch.device("cuda", index) for index in range(count)] if all_gpus else [place]
    return sum(torch.cuda.mem_get_info(one)[0] for one in places)


def free_main_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Return the bytes of main memory that this process may still take: the machine's, or its container's if less."""
    machine = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if meminfo.is_file():  # counts what the kernel would give up, such as cached files
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        machine = int(fields["MemAvailable"].split()[0]) * 1024
    return min(machine, _free_in_container(cgroup, machine))


def _free_in_container(cgroup: Path, otherwise: int) -> int:
    try:
        most = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        cached = next(
            int(line.split()[1])
            for line in (cgroup / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
    except (OSError, ValueError, StopIteration):
        return otherwise
    return otherwise if most == "max" else int(most) - used + cached


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
