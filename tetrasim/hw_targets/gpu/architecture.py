"""What is published about a GPU architecture and holds for every device that has it.

Latencies are pointer-chase cycles (te42kyfo/gpu-benches: V100, A100, H100 PCIe, L40; Turing: an RTX 2070
microbenchmark with TLB misses). `l2_warm` and `l2_cold`: the working sets, in units of L2, up to which a
repeated scan reads at L2's rate and from which at DRAM's, where a capacity sweep shows them.

Hopper and later copy tiles by a unit of its own (TMA), asynchronously; library kernels use it in two ways:
 - two blocks of a cluster share one of their panels (multicast), so 128 x 128 tiles load 3/4 of the bytes;
 - the epilogue stores finished 16-bit tiles through shared memory once (2 bytes written, 2 read per element),
   where kernels of earlier architectures stage 32-bit sums and store from registers (4 + 4 + 2 bytes):
   CUTLASS, sm90 epilogue collectives and the default sm80 epilogue (BSD-3-Clause). The ratio is inferred.
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.errors import UserError, nearest


@dataclass(frozen=True, slots=True)
class Architecture:
    """See the module text. Latencies in cycles; `None`: no sweep is published."""

    l2_latency: int
    dram_latency: int
    asynchronous: bool = False
    l2_warm: float | None = None
    l2_cold: float | None = None

    @property
    def panel_bytes(self) -> float:
        """L2 bytes of a square tile's panels, relative to blocks that load both of their own."""
        return 0.75 if self.asynchronous else 1.0

    @property
    def epilogue_bytes(self) -> float:
        """Bytes per element that the epilogue moves inside the SM, relative to Ampere's."""
        return 0.4 if self.asynchronous else 1.0


ARCHITECTURES = {
    "volta": Architecture(215, 437),
    "turing": Architecture(236, 1000),
    "ampere": Architecture(211, 572),
    "ada": Architecture(276, 632, l2_warm=1.0, l2_cold=1.23),  # L40: 96 MB at full rate, from 118 MB DRAM's
    "hopper": Architecture(265, 655, asynchronous=True),
    "blackwell": Architecture(265, 655, asynchronous=True),  # latencies: as Hopper (assumed)
}


def architecture(name: str) -> Architecture:
    """The architecture called `name`.

    Raises:
        UserError: unknown, with the nearest name.
    """
    if name not in ARCHITECTURES:
        hint = nearest(name, ARCHITECTURES)
        raise UserError(f"unknown GPU architecture '{name}'", where="architecture", hint=hint)
    return ARCHITECTURES[name]
