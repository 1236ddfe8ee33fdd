"""`trace.pftrace`: when every task ran, as Perfetto TrackEvents (open in ui.perfetto.dev).

One process per traced run, one track per resource, one slice per task from its start to the moment the
resource is free again. Perfetto counts integer nanoseconds, so each slice also carries its exact
picoseconds, its node and what its time was spent on. Names are interned: a trace of 100,000 tasks takes a
few megabytes. Source: protos/perfetto/trace/track_event/track_event.proto of the Perfetto project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from tetrasim.sim.engine.program import Program
from tetrasim.sim.engine.timeline import Cause, Timeline
from tetrasim.sim.ir.graph import Graph
from tetrasim.units import PS_PER_S

_PS_PER_NS = PS_PER_S // 10**9
_KEYS, _TEXTS = "debug_annotation_names", "debug_annotation_string_values"


@dataclass(frozen=True, eq=False)
class TracedRun:
    """One run of one phase: `label` is shown as the process name ("gpu/t4 prefill")."""

    label: str
    program: Program
    timeline: Timeline
    graph: Graph


def to_pftrace(runs: Sequence[TracedRun]) -> bytes:
    """The serialised trace: as many slices as the programs have tasks. Traces of runs with different labels
    may be concatenated: track, process and sequence numbers are derived from the labels."""
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

    trace = pb.Trace()
    for run in runs:
        sequence = _Sequence(trace, pb, _number(run.label, bits=32))
        _slices(sequence, run, _tracks(sequence, run))
    data: bytes = trace.SerializeToString()
    return data


def _number(label: str, bits: int) -> int:
    """A positive number that belongs to `label`."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8]) % ((1 << (bits - 1)) - 1) + 1


def _tracks(sequence: _Sequence, run: TracedRun) -> list[int]:
    """Describe the process, its lanes and its resources; the track of each resource."""
    first = _number(run.label, bits=62)
    uuids = count(first)
    process = next(uuids)
    described = sequence.packet().track_descriptor
    described.uuid = process
    described.process.pid = _number(run.label, bits=31)
    described.process.process_name = run.label
    lanes: dict[str, int] = {"": process}
    tracks = []
    for resource in run.program.resources:
        if resource.lane not in lanes:
            lanes[resource.lane] = next(uuids)
            sequence.track(lanes[resource.lane], resource.lane, process)
        tracks.append(next(uuids))
        sequence.track(tracks[-1], resource.name, lanes[resource.lane])
    return tracks


class _Sequence:
    """The packets of one run, with interned names: each string is written once, before its first use."""

    def __init__(self, trace: Any, pb: Any, number: int) -> None:
        self._trace, self._pb, self._number = trace, pb, number
        self._known: dict[tuple[str, str], int] = {}
        self.packet().sequence_flags = pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED

    def packet(self) -> Any:
        """A new packet of this sequence."""
        packet = self._trace.packet.add()
        packet.trusted_packet_sequence_id = self._number
        return packet

    def track(self, uuid: int, name: str, parent: int) -> None:
        """Describe a track."""
        descriptor = self.packet().track_descriptor
        descriptor.uuid, descriptor.name, descriptor.parent_uuid = uuid, name, parent

    def event(self, track: int, time_ps: int, *, begin: bool) -> Any:
        """The track event of a new packet."""
        packet = self.packet()
        packet.sequence_flags = self._pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        packet.timestamp = time_ps // _PS_PER_NS
        event = packet.track_event
        event.track_uuid = track
        event.type = self._pb.TrackEvent.TYPE_SLICE_BEGIN if begin else self._pb.TrackEvent.TYPE_SLICE_END
        return event

    def intern(self, table: str, text: str) -> int:
        """The number of `text` in a table of `InternedData`, written now if it is new."""
        key = (table, text)
        if key not in self._known:
            self._known[key] = len(self._known) + 1
            packet = self.packet()
            packet.sequence_flags = self._pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
            entry = getattr(packet.interned_data, table).add()
            entry.iid = self._known[key]
            if table == _TEXTS:
                entry.str = text.encode()
            else:
                entry.name = text
        return self._known[key]


def _slices(sequence: _Sequence, run: TracedRun, tracks: Sequence[int]) -> None:
    """Begin and end events, track by track in time order, as the format wants them."""
    program, timeline = run.program, run.timeline
    for task in np.lexsort((timeline.start_ps, program.resource)).tolist():
        track = tracks[int(program.resource[task])]
        # All strings are interned before the event that uses them is added.
        name = sequence.intern("event_names", program.kind_names[int(program.kind[task])])
        notes = [
            (
                sequence.intern(_KEYS, key),
                value if isinstance(value, int) else sequence.intern(_TEXTS, value),
                value,
            )
            for key, value in _arguments(run, task)
        ]
        begin = sequence.event(track, int(timeline.start_ps[task]), begin=True)
        begin.name_iid = name
        for key, number, value in notes:
            note = begin.debug_annotations.add()
            note.name_iid = key
            if isinstance(value, int):
                note.int_value = number
            else:
                note.string_value_iid = number
        sequence.event(track, int(timeline.free_ps[task]), begin=False)


def _arguments(run: TracedRun, task: int) -> list[tuple[str, str | int]]:
    """What a click on the slice shows."""
    program, timeline = run.program, run.timeline
    out: list[tuple[str, str | int]] = [("task", task)]
    node = int(program.node[task])
    if node >= 0:
        owner = run.graph.nodes[node]
        out += [("node", owner.name), ("op", owner.op)]
        out += [("module", owner.source.module)] if owner.source.module else []
    out += [
        ("start_ps", int(timeline.start_ps[task])),
        ("busy_cycles", int(program.busy_cycles[task])),
        ("latency_cycles", int(program.latency_cycles[task])),
        ("waited_for", Cause(int(timeline.cause[task])).name.lower()),
    ]
    if int(timeline.cause_task[task]) >= 0:
        out.append(("waited_for_task", int(timeline.cause_task[task])))
    parts = zip(program.part_names, program.part_cycles[task], strict=True)
    out += [(f"cycles: {name}", int(cycles)) for name, cycles in parts if cycles]
    levels = zip(program.level_names, program.level_bytes[task], strict=True)
    out += [(f"bytes: {name}", int(count)) for name, count in levels if count]
    return out
