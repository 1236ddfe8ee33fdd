"""Random actor graphs with forks, joins, barriers, ping-pong buffers and small FIFOs."""

from __future__ import annotations

import random

from tetrasim.hw_targets.fpga.dataflow.network import Actor, Fifo, Network, Port


def random_network(seed: int, largest: int = 9) -> Network:
    """A layered graph of 3 to `largest` stages on one token count; some stages are barriers; some FIFOs too
    small."""
    rng = random.Random(seed)
    tokens = rng.choice([1, 2, 3, 5, 8])
    actors: list[Actor] = []
    fifos: list[Fifo] = []
    writes: dict[int, list[int]] = {}
    reads: dict[int, list[int]] = {}
    stages = rng.randint(3, largest)

    def join(a: int, b: int, tight: bool) -> None:
        depth = rng.choice([1, 2, 3]) if tight else rng.choice([1, 2, 4, tokens, tokens + 1, 2 * tokens + 2])
        fifos.append(Fifo(f"f{len(fifos)}", max(depth, 1), 16))
        writes.setdefault(a, []).append(len(fifos) - 1)
        reads.setdefault(b, []).append(len(fifos) - 1)

    for b in range(1, stages):
        join(rng.randrange(max(0, b - 3), b), b, rng.random() < 0.3)
        if b > 1 and rng.random() < 0.4:
            join(rng.randrange(0, b), b, rng.random() < 0.5)
    for a in range(stages):
        kind = rng.choice(["map", "map", "barrier", "overlap"])
        ins, outs = reads.get(a, []), writes.get(a, [])
        firings, first_out = tokens, 0
        if kind != "map" and ins and outs:
            first_out = tokens if kind == "barrier" else tokens - 1
            firings = first_out + tokens
        r = tuple(Port(f, 0, tokens) for f in ins)
        w = tuple(Port(f, first_out, first_out + tokens) for f in outs)
        actors.append(Actor(f"a{a}", rng.randint(1, 4), rng.randint(1, 9), firings, r, w))
    if rng.random() < 0.3 and len(actors) > 2:  # a credit loop from a later to an earlier actor
        early, late = sorted(rng.sample(range(len(actors)), 2))
        fifos.append(Fifo("credit", 4, 1, rng.randint(1, 2)))
        f = len(fifos) - 1
        a, b = actors[early], actors[late]
        actors[early] = Actor(a.name, a.ii, a.latency, a.firings, (*a.reads, Port(f, 0, 1)), a.writes)
        actors[late] = Actor(
            b.name, b.ii, b.latency, b.firings, b.reads, (*b.writes, Port(f, b.firings - 1, b.firings))
        )
    network = Network(tuple(actors), tuple(fifos))
    network.verify()
    return network
