"""The slow, obvious dataflow machine: real shift registers and token queues, one cycle at a time."""

from __future__ import annotations

from collections import deque

from tetrasim.hw_targets.fpga.dataflow.network import Network, Port


def active(ports: tuple[Port, ...], firing: int) -> list[Port]:
    return [p for p in ports if p.first <= firing < p.last and (firing - p.first) % p.stride == 0]


def run_slowly(
    network: Network, frames: int, limit: int = 100_000
) -> tuple[str, int, list[list[int]], list[int]]:
    """Status, cycles, start cycles per actor, highest occupancy per FIFO."""
    stages = [deque([None] * a.latency, maxlen=a.latency) for a in network.actors]  # right end leaves next
    wait = [0] * len(network.actors)
    fired = [0] * len(network.actors)
    starts: list[list[int]] = [[] for _ in network.actors]
    # a token is the cycle from which it can be read
    queues = [deque([0] * f.initial) for f in network.fifos]
    highest = [f.initial for f in network.fifos]
    for cycle in range(limit):
        done = all(
            n == a.firings * frames and all(s is None for s in pipe)
            for n, a, pipe in zip(fired, network.actors, stages, strict=True)
        )
        if done:
            return "done", cycle, starts, highest
        pushes, pops, moved = [], [], any(t > cycle for q in queues for t in q)
        for a, actor in enumerate(network.actors):
            leaving = stages[a][-1]
            if leaving is not None:
                outs = active(actor.writes, leaving)
                if any(len(queues[p.fifo]) >= network.fifos[p.fifo].depth for p in outs):
                    continue
                pushes += [p.fifo for p in outs]
            entering = None
            if wait[a] == 0 and fired[a] < actor.firings * frames:
                firing = fired[a] % actor.firings
                ins = active(actor.reads, firing)
                if all(queues[p.fifo] and queues[p.fifo][0] <= cycle for p in ins):
                    pops += [p.fifo for p in ins]
                    entering = firing
                    fired[a] += 1
                    starts[a].append(cycle)
                    wait[a] = actor.ii
            counting = wait[a] > 0 and fired[a] < actor.firings * frames
            if any(s is not None for s in stages[a]) or entering is not None or counting:
                moved = True
            wait[a] = max(wait[a] - 1, 0)
            stages[a].appendleft(entering)
        for f in pops:
            queues[f].popleft()
        for f in pushes:
            queues[f].append(cycle + network.fifos[f].read_after_write)
        highest = [max(h, len(q)) for h, q in zip(highest, queues, strict=True)]
        if not moved and not pushes and not pops:
            return "deadlock", cycle + 1, starts, highest
    return "limit", limit, starts, highest
