"""What each op of a fused kernel has of the kernel's time, DRAM bytes, energy and MACs.

Bytes: those of its own operands, as far as they miss L2; a tensor that stays in registers belongs to nobody.
Time: in proportion to the time that the op would need by itself at the device's peaks (its roofline). Ops of
one kernel overlap, and may together need more at the peaks than the kernel takes; products then keep what
they need at the peak of their unit, so that no product is ever faster than the hardware, and the others share
the rest. Energy: each component by what draws it: MACs, vector operations, bytes, time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.config import GpuConfig
from tetrasim.hw_targets.gpu.costs import Costs, gemm_format
from tetrasim.hw_targets.gpu.device import FLOAT32, device_of
from tetrasim.hw_targets.gpu.kernels import vector
from tetrasim.hw_targets.gpu.residency import operands_of
from tetrasim.sim.engine.program import Sharing, running_shares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tetrasim.hw_targets.gpu.fuse import Kernels
    from tetrasim.hw_targets.gpu.residency import Operands
    from tetrasim.sim.ops.work import Work


@dataclass(frozen=True, eq=False)
class Shared:
    """The ops of D distinct fused kernels as Q rows, and the nodes that they stand for."""

    start: NDArray[np.int64]  # [N+1] CSR by host node
    node: NDArray[np.int32]  # [M]
    row: NDArray[np.int64]  # [M] of the Q
    first: NDArray[np.int64]  # [D+1] rows of each distinct kernel
    kernel: NDArray[np.int64]  # [Q] index of the kernel's price
    format: NDArray[np.int64]  # [Q] of the kernel's product
    macs: NDArray[np.float64]  # [Q]
    slots: NDArray[np.float64]  # [Q] of the CUDA cores
    operands: Operands  # [Q]


def shared_of(fused: Kernels, index: Mapping[Work, int], config: GpuConfig) -> Shared | None:
    """The fused kernels of a graph; None when there are none. `index`: of the price of each kernel."""
    start, nodes, rows = [0], list[int](), list[int]()
    known: dict[tuple[int, tuple[Work, ...]], int] = {}
    ops: list[Work] = []
    first, kernel, formats = [0], list[int](), list[int]()
    for work, pieces in zip(fused.work, fused.pieces, strict=True):
        if work is not None and len(pieces) > 1:
            key = (index[work], tuple(piece for _, piece in pieces))
            if key not in known:
                known[key] = len(ops)
                ops += key[1]
                first.append(len(ops))
                kernel += [key[0]] * len(pieces)
                formats += [gemm_format(work, config)] * len(pieces)
            nodes += [node for node, _ in pieces]
            rows += range(known[key], known[key] + len(pieces))
        start.append(len(nodes))
    if not nodes:
        return None
    counted = [() if w.vector is None else w.vector.ops for w in ops]
    return Shared(
        np.array(start, dtype=np.int64),
        np.array(nodes, dtype=np.int32),
        np.array(rows, dtype=np.int64),
        np.array(first, dtype=np.int64),
        np.array(kernel, dtype=np.int64),
        np.array(formats, dtype=np.int64),
        np.array([w.macs for w in ops], dtype=np.float64),
        np.array([sum(vector.SLOTS[kind] * n for kind, n in counts) for counts in counted]),
        operands_of(ops, alone=False),
    )


def sharing_of(shared: Shared | None, costs: Costs, config: GpuConfig) -> Sharing | None:
    """The shares of every node of a fused kernel, at these prices."""
    if shared is None:
        return None
    dram = _dram_bytes(shared, costs)
    time = _time_shares(shared, costs, config, dram)
    first, kernel = shared.first, shared.kernel
    by_bytes, by_macs = _normal(dram, first), _normal(shared.macs, first)
    by_slots = _normal(shared.slots, first)
    cores = np.where(_sums(shared.macs, first) > 0, by_macs, by_slots)
    own = np.stack([by_macs, cores, by_bytes, time], axis=1)  # in the order of `costs.COMPONENTS`
    energy = (costs.energy_pj[kernel] * own).sum(axis=1)
    edges = np.stack([running_shares(w, first) for w in (time, dram, energy, shared.macs)])
    return Sharing(shared.start, shared.node, edges[:, shared.row])


def _dram_bytes(shared: Shared, costs: Costs) -> NDArray[np.float64]:
    near, far = costs.miss[shared.kernel].T
    operands = shared.operands
    return np.asarray((operands.near + operands.written) * near + operands.far * far)


def _time_shares(
    shared: Shared, costs: Costs, config: GpuConfig, dram: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[Q] parts of one per kernel; see the module text."""
    device, slow, first = device_of(config), config.slowdown, shared.first
    at_peak = 2.0 * shared.macs / np.maximum(device.peaks[shared.format], 1e-9) * slow
    in_vectors = shared.slots / (device.peaks[FLOAT32] / 2) * slow
    in_l2 = shared.operands.total / device.l2_bytes_per_us * slow
    roofline = np.max([at_peak, in_vectors, in_l2, dram / device.dram_bytes_per_us], axis=0)
    alone = _normal(roofline, first)
    kernel_us = np.maximum(costs.time_us[shared.kernel], 1e-9)
    products = np.where(shared.macs > 0, alone, 0.0)
    kept = np.minimum(np.maximum(_sums(products, first), _sums(at_peak, first) / kernel_us), 1.0)
    others = _normal(np.where(shared.macs > 0, 0.0, roofline), first)
    among = np.where(shared.macs > 0, _normal(at_peak, first) * kept, others * (1.0 - kept))
    return np.where(_sums(at_peak, first) > 0, among, alone)


def _sums(values: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    """[Q] sum over the kernel that each row belongs to."""
    return np.repeat(np.add.reduceat(values, first[:-1]), np.diff(first))


def _normal(values: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    """[Q] parts of one per kernel, zero where a kernel has nothing of it."""
    return np.asarray(values / np.maximum(_sums(values, first), 1e-300))
