"""What the operating system says about this machine: name, cores, caches, memory, load (Linux; elsewhere
documented defaults for what cannot be read)."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

CPU = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or microseconds of processor time per microseconds


@dataclass(frozen=True, slots=True)
class HostInfo:
    """`l2_shared_by` and `l3_shared_by` count the logical cores of one cache."""

    name: str
    cores: int
    l1_bytes: int
    l2_bytes: int
    l2_shared_by: int
    l3_bytes: int
    l3_shared_by: int
    memory_bytes: int
    clock_hz: int
    flags: frozenset[str]


def read_host() -> HostInfo:
    """This machine; only the cores that the process may use are counted."""
    cores = available_cores()
    caches = _caches()
    l1 = caches.get(1, (32 << 10, 1))
    l2 = caches.get(2, (1 << 20, 1))
    l3 = caches.get(3, (0, 1))
    fields = _cpuinfo()
    return HostInfo(
        name=fields.get("model name") or platform.processor() or platform.machine() or "unknown processor",
        cores=cores,
        l1_bytes=l1[0],
        l2_bytes=l2[0],
        l2_shared_by=l2[1],
        l3_bytes=l3[0],
        l3_shared_by=max(l3[1], 1),
        memory_bytes=_memory_bytes(),
        clock_hz=_clock_hz(fields),
        flags=frozenset((fields.get("flags") or fields.get("Features") or "").split()),
    )


def available_cores() -> int:
    """Cores that this process may run on, and in a container, whose time it may use (at least one)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(QUOTA).partition(" ")
    if quota.isdigit() and period.isdigit():
        allowed = min(allowed, int(quota) // int(period))
    return max(allowed, 1)


def load_average() -> float:
    """One-minute load, or -1 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _cpuinfo() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo."""
    lines = _read(Path("/proc/cpuinfo")).split("\n\n")[0].splitlines()
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}


def _caches() -> dict[int, tuple[int, int]]:
    """Level -> (bytes, cores that share it), data and unified caches of the first core."""
    found: dict[int, tuple[int, int]] = {}
    for index in sorted((CPU / "cpu0" / "cache").glob("index*")):
        level, kind, size = _read(index / "level"), _read(index / "type"), _read(index / "size")
        if kind != "Instruction" and level.isdigit() and size[:-1].isdigit():
            nbytes = int(size[:-1]) << {"K": 10, "M": 20}.get(size[-1], 0)
            found[int(level)] = (nbytes, _count(_read(index / "shared_cpu_list")))
    return found


def _count(cpu_list: str) -> int:
    """Members of `0-3,8`."""
    total = 0
    for item in filter(None, cpu_list.split(",")):
        first, _, last = item.partition("-")
        total += int(last or first) - int(first) + 1
    return max(total, 1)


def _memory_bytes() -> int:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 8 << 30


def _clock_hz(fields: dict[str, str]) -> int:
    """The highest clock known: cpufreq, else the nominal one, else 3 GHz."""
    khz = _read(CPU / "cpu0" / "cpufreq" / "cpuinfo_max_freq")
    if khz.isdigit():
        return int(khz) * 1000
    try:
        return round(float(fields["cpu MHz"]) * 1e6)
    except (KeyError, ValueError):
        return 3_000_000_000
