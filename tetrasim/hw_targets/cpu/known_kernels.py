"""Kernels that a calibrated machine knows the time of, timed again beside a measurement.

A square product tells whether the cores run as when they were calibrated, a chain of weights beyond the
caches whether main memory does. Their calibrated time is the model's own prediction: both were fitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tetrasim.hw_targets.cpu.calibration.fit import predict
from tetrasim.hw_targets.cpu.calibration.hostinfo import read_host
from tetrasim.hw_targets.cpu.calibration.onnx_bench import bound_run, op_model
from tetrasim.hw_targets.cpu.calibration.rounds import SPIN_S, Probe, visit
from tetrasim.hw_targets.cpu.calibration.samples import (
    CHAIN_HIDDEN,
    CHAIN_WIDTH,
    GemmSample,
    chain_weights,
    cold_chains,
    gemm_case,
)
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.sim.ops.work import Gemm

SQUARE = 512


class KnownKernels:
    """The two kernels on the threads of `config`, with their best times so far."""

    def __init__(self, config: CpuConfig) -> None:
        self.config = config
        threads = config.active_threads
        case = gemm_case(SQUARE, SQUARE, SQUARE, constant=True)
        chain = cold_chains(chain_weights(read_host()), (threads,))[0]
        feeds = {"x": np.ones((1, CHAIN_WIDTH), np.float32)}
        product = Gemm(1, SQUARE, SQUARE, SQUARE)
        streamed = Gemm(1, 1, CHAIN_HIDDEN, CHAIN_WIDTH)

        def stream() -> None:
            chain.session.run(None, feeds)

        square = bound_run(case.inputs, op_model(case), threads)
        self._kernels: tuple[tuple[str, Callable[[], object], int, GemmSample], ...] = (
            ("a product", square, 1, GemmSample(product, False, 0.0)),
            ("a streamed weight", stream, chain.products, GemmSample(streamed, True, 0.0)),
        )
        self._best: dict[str, float] = {}

    def visit(self) -> None:
        """Time each a few times."""
        threads = self.config.active_threads
        for name, run, products, _ in self._kernels:
            if threads > 1:
                time.sleep(SPIN_S)
            seconds = visit(Probe(name, run, 0.02, threads)) / products
            self._best[name] = min(self._best.get(name, seconds), seconds)
        if threads > 1:
            time.sleep(SPIN_S)

    def drift(self) -> tuple[tuple[str, float], ...]:
        """How many times its calibrated time each takes now."""
        return tuple(
            (name, self._best[name] / predict(sample, self.config))
            for name, _, _, sample in self._kernels
            if name in self._best
        )
