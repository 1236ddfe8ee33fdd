"""What a user chooses about an HLS project; checked before hls4ml is imported."""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.errors import UserError, nearest

STRATEGIES = ("latency", "resource", "distributed_arithmetic")
BACKENDS = ("Vitis", "Vivado")
IO = ("stream", "parallel")


@dataclass(frozen=True, slots=True)
class HlsOptions:
    """`bits` 0: the smallest width that meets the error budget; `reuse` 0: the smallest power of two with
    which the design fits the part; `samples` inputs check the numerics. `part` is a part number, or an FPGA
    preset (`fpga/zcu102`, `fpga/path/to/mine.yaml`) whose part it is. A design that the part cannot hold is
    refused unless `oversize` allows it.

    `io` stream hands rows from layer to layer through FIFOs (hls4ml's io_stream), parallel whole arrays
    (io_parallel). Stream is the default: a transformer's layers then overlap, which more than halves its
    latency, and hardly an array but keys and values lies in registers.
    """

    part: str = "xcvu13p-flga2577-2-e"
    clock_ns: float = 5.0
    reuse: int = 0
    strategy: str = "latency"
    backend: str = "Vitis"
    io: str = "stream"
    bits: int = 16
    guard_bits: int = 1
    oversize: bool = False
    budget: float = 0.02  # largest error over the output range
    samples: int = 200
    calibration: int = 200
    seed: int = 0
    timeout_s: int = 600
    memory_bytes: int = 8 * 2**30

    def check(self) -> None:
        """Raises UserError for the first option that makes no sense."""
        for name, value, known in (
            ("--strategy", self.strategy, STRATEGIES),
            ("--backend", self.backend, BACKENDS),
            ("--io", self.io, IO),
        ):
            if value not in known:
                raise UserError(f"unknown {name} '{value}'", hint=nearest(value, known))
        from tetrasim.hw_targets.fpga.hls.parts import check_part

        check_part(self.part)
        if not 0.5 <= self.clock_ns <= 1000:
            raise UserError(f"--clock-ns {self.clock_ns} is out of range", hint="between 0.5 and 1000")
        if not 0 <= self.reuse <= 1 << 16:
            raise UserError(
                f"--reuse {self.reuse} is out of range", hint="at least 1, or 0 for the smallest that fits"
            )
        if self.bits and not 4 <= self.bits <= 20:
            raise UserError(
                f"--bits {self.bits} is out of range",
                hint="4 to 20 (0 searches): wider products are not exact in the emulation",
            )
        if self.strategy == "distributed_arithmetic" and self.reuse > 1:
            raise UserError("distributed arithmetic needs --reuse 1", hint="hls4ml unrolls it completely")
