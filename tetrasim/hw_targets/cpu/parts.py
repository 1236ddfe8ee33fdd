"""What a processor and the runtime on it spend time on, and what helps against it. Theory: docs/cpu.md."""

from __future__ import annotations

from tetrasim.hw_targets.common.parts import change, part_names
from tetrasim.hw_targets.common.target import Advice, Part
from tetrasim.hw_targets.cpu.config import DTYPES, CpuConfig

_BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8}


def _threads(c: CpuConfig) -> tuple[Advice, ...]:
    return change("use all cores", "threads", 0) if c.active_threads < c.cores else ()


def _multiply(c: CpuConfig) -> tuple[Advice, ...]:
    rates = {d: c.mac_rate(_BITS[d], d == "bfloat16") for d in DTYPES if _BITS[d] < _BITS[c.precision]}
    best = max(rates, key=lambda d: (rates[d], _BITS[d]), default=None)
    if best is not None and rates[best] > c.mac_rate(_BITS[c.precision], c.precision == "bfloat16"):
        return (*_threads(c), *change("multiply in a format with a higher rate", "precision", best))
    return _threads(c) or change("take a core with more multipliers", "core.fp32_macs_per_cycle",
                                 2 * c.core.fp32_macs_per_cycle)  # fmt: skip


def _tiles(c: CpuConfig) -> tuple[Advice, ...]:
    text = f"fill the tiles of {c.gemm.tile_rows} rows: more requests at once (--batch); or start them faster"
    return change(text, "gemm.tile_overhead_cycles", c.gemm.tile_overhead_cycles / 2)


def _packing(c: CpuConfig) -> tuple[Advice, ...]:
    return change("rearrange operands faster", "gemm.pack_bytes_per_cycle", 2 * c.gemm.pack_bytes_per_cycle)


def _runtime(c: CpuConfig) -> tuple[Advice, ...]:
    if c.runtime == "onnxruntime":
        return ()
    return change("run the graph in a graph runtime instead of op by op", "runtime", "onnxruntime")


def _vector(c: CpuConfig) -> tuple[Advice, ...]:
    found = (*_threads(c), *_runtime(c))
    cheaper = c.vector.access_cycles / 2
    return found or change("load and store in wider vectors", "vector.access_cycles", cheaper)


def _in_place(c: CpuConfig) -> tuple[Advice, ...]:
    return change("append to the cache in place", "kv_append", "in-place") if c.kv_append == "copy" else ()


def _copies(c: CpuConfig) -> tuple[Advice, ...]:
    found = (*_in_place(c), *_runtime(c))
    return found or change("copy in wider vectors", "vector.move_cycles", c.vector.move_cycles / 2)


def _cache(level: str) -> Part[CpuConfig]:
    def advice(c: CpuConfig) -> tuple[Advice, ...]:
        cache = {"L1": c.l1, "L2": c.l2, "L3": c.l3}[level]
        faster = change(f"take an {level} of more bandwidth", f"{level.lower()}.bytes_per_cycle",
                        2 * cache.bytes_per_cycle)  # fmt: skip
        if not cache.total_bytes_per_s:
            return faster
        total = (f"{level.lower()}.total_bytes_per_s", 2 * cache.total_bytes_per_s)
        return (Advice(faster[0].text, (*faster[0].settings, total)),)

    return Part(f"{level} bandwidth", advice)


def _fewer_bits(c: CpuConfig) -> tuple[Advice, ...]:
    text = "store weights in fewer bits, or share their reading among more requests (--batch)"
    if _BITS[c.precision] == 32:
        return change(text, "precision", "bfloat16")
    return change(text, "precision", "int8") if _BITS[c.precision] == 16 else ()


def _bandwidth(c: CpuConfig) -> tuple[Advice, ...]:
    if c.dram.placement == "one-node" and c.dram.numa_nodes > 1:
        return change("spread memory over the sockets", "dram.placement", "interleaved")
    d = c.dram
    both = (
        ("dram.bandwidth_bytes_per_s", 2 * d.bandwidth_bytes_per_s),
        ("dram.core_bandwidth_bytes_per_s", 2 * d.core_bandwidth_bytes_per_s),
    )
    return (Advice("take memory of more bandwidth", both),)


def _state(c: CpuConfig) -> tuple[Advice, ...]:
    return (*_in_place(c), *_bandwidth(c))


def _node(c: CpuConfig) -> tuple[Advice, ...]:
    text = "fuse nodes, or spend less per node"
    return _runtime(c) or change(text, "overhead.node_ns", c.overhead.node_ns / 2)


def _faults(c: CpuConfig) -> tuple[Advice, ...]:
    return (*_runtime(c), *change("keep large results allocated", "overhead.page_fault_ns", 0.0))


PARTS: tuple[Part[CpuConfig], ...] = (
    Part("multiply-add", _multiply),
    Part("GEMM tiles", _tiles),
    Part("packing", _packing),
    Part("vector arithmetic", _vector),
    Part("copies", _copies),
    _cache("L1"),
    _cache("L2"),
    _cache("L3"),
    Part("DRAM weights", lambda c: (*_fewer_bits(c), *_bandwidth(c))),
    Part("DRAM state", _state),
    Part("DRAM activations", lambda c: (*_runtime(c), *_bandwidth(c))),
    Part(
        "fork and join",
        lambda c: change(
            "give the threads larger pieces, or let them wait spinning",
            "overhead.fork_join_ns",
            c.overhead.fork_join_ns / 2,
        ),
    ),
    Part("node overhead", _node),
    Part(
        "run overhead",
        lambda c: change(
            "run less often, for more requests at once (--batch)", "overhead.run_ns", c.overhead.run_ns / 2
        ),
    ),
    Part("page faults", _faults),
    Part("power limit", lambda c: change("allow more power", "power.limit_w", 1.25 * c.power.limit_w)),
)
PART_NAMES = part_names(PARTS)
