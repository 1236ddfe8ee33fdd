"""A dataflow design: actors that fire, FIFOs that join them.

An actor is a rigid pipeline of `latency` stages that accepts a firing every `ii` cycles. A frame (one
inference) is `firings` firings; a port takes part in firing f of the frame when `first <= f < last` and
`(f - first) % stride == 0`. So one record covers a stage that maps token to token, a barrier (reads in the
first firings, writes in the later ones), a reduction (writes in the last), a broadcast (reads in the first),
forks (several write ports, all or none) and joins. Initial tokens in a FIFO are credits: a collector and an
emitter joined by a credit FIFO are a ping-pong buffer.

FIFO timing as in LightningSim (arXiv 2304.11219): up to two entries are a shift register, whose token can be
read one cycle after it was written; deeper ones are RAM, two cycles; a freed slot can be written one cycle
later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

SHIFT_REGISTER_DEPTH = 2


@dataclass(frozen=True, slots=True)
class Fifo:
    """`depth` slots of `bits`; `initial` tokens are there before the first cycle."""

    name: str
    depth: int
    bits: int = 0
    initial: int = 0

    @property
    def read_after_write(self) -> int:
        """Cycles from a write to the first cycle in which the token can be read."""
        return 1 if self.depth <= SHIFT_REGISTER_DEPTH else 2


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a FIFO: index into `Network.fifos` and the firings of a frame that use it."""

    fifo: int
    first: int
    last: int
    stride: int = 1

    @property
    def tokens(self) -> int:
        """Tokens per frame."""
        return max(-(-(self.last - self.first) // self.stride), 0)


@dataclass(frozen=True, slots=True)
class Actor:
    """`node` is the graph node it belongs to, -1 for sources, sinks and helpers."""

    name: str
    ii: int
    latency: int
    firings: int
    reads: tuple[Port, ...]
    writes: tuple[Port, ...]
    node: int = -1


class NetworkError(Exception):
    """A malformed network: our defect, found by `Network.verify`."""


@dataclass(frozen=True)
class Network:
    """Actors in any order; every FIFO has one writer and one reader."""

    actors: tuple[Actor, ...]
    fifos: tuple[Fifo, ...]

    def writers(self) -> tuple[tuple[int, Port], ...]:
        """Per FIFO, the actor that writes it and its port."""
        return self._ends(write=True)

    def readers(self) -> tuple[tuple[int, Port], ...]:
        """Per FIFO, the actor that reads it and its port."""
        return self._ends(write=False)

    def _ends(self, *, write: bool) -> tuple[tuple[int, Port], ...]:
        found: dict[int, tuple[int, Port]] = {}
        for a, actor in enumerate(self.actors):
            for port in actor.writes if write else actor.reads:
                if port.fifo in found:
                    raise NetworkError(
                        f"FIFO {self.fifos[port.fifo].name} has two {'writers' if write else 'readers'}"
                    )
                found[port.fifo] = (a, port)
        missing = [f.name for i, f in enumerate(self.fifos) if i not in found]
        if missing:
            raise NetworkError(f"FIFO {missing[0]} has no {'writer' if write else 'reader'}")
        return tuple(found[i] for i in range(len(self.fifos)))

    def verify(self) -> None:
        """Check ranges, ends and that a frame writes as many tokens as it reads.

        Raises:
            NetworkError: naming the actor or FIFO.
        """
        for actor in self.actors:
            if actor.ii < 1 or actor.latency < 1 or actor.firings < 1:
                raise NetworkError(f"actor {actor.name}: ii, latency and firings must be at least 1")
            for port in (*actor.reads, *actor.writes):
                if not 0 <= port.first < port.last <= actor.firings or port.stride < 1:
                    raise NetworkError(f"actor {actor.name}: a port's range is not within its firings")
        for fifo, (_, put), (_, get) in zip(self.fifos, self.writers(), self.readers(), strict=True):
            if fifo.depth < 1 or fifo.initial > fifo.depth:
                raise NetworkError(f"FIFO {fifo.name}: depth {fifo.depth} with {fifo.initial} initial tokens")
            if put.tokens != get.tokens:
                raise NetworkError(
                    f"FIFO {fifo.name}: {put.tokens} tokens written, {get.tokens} read per frame"
                )

    def with_depths(self, depths: tuple[int, ...]) -> Network:
        """The same network with other FIFO depths (never below the initial tokens)."""
        fifos = tuple(replace(f, depth=max(d, f.initial, 1)) for f, d in zip(self.fifos, depths, strict=True))
        return Network(self.actors, fifos)

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(f.depth for f in self.fifos)
