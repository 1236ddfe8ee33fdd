"""`trace.pftrace`: when every task ran, as Perfetto TrackEvents (open in ui.perfetto.dev).

One process per phase, one track per resource, one slice per task from its start to the moment the resource
is free again; the runs of a phase follow each other on the same tracks, each begun by a mark on the track
`runs`. What the target counts over time (busy SMs) is a track of values. Perfetto counts integer
nanoseconds, so each slice also carries its exact picoseconds since the run began, its node and what its
time was spent on. Names are interned, and the packets of slices are put together from encoded pieces:
building a message object for each takes ten times as long. Source:
protos/perfetto/trace/track_event/track_event.proto of the Perfetto project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tetrasim.sim.engine.program import Program, Resource
from tetrasim.sim.engine.timeline import Cause, Counter, Timeline
from tetrasim.sim.ir.graph import Graph
from tetrasim.units import PS_PER_S

MOST_SLICES = 50_000
_PS_PER_NS = PS_PER_S // 10**9
_KEYS, _TEXTS = "debug_annotation_names", "debug_annotation_string_values"
_VARINT, _BYTES = 0, 2  # wire types of the encoding


@dataclass(frozen=True, eq=False)
class TracedRun:
    """One run of one phase: `label` is shown as the process name ("gpu/t4 prefill"), `name` marks where the
    run begins ("context 33"), `begin_ps` is when that is."""

    label: str
    program: Program
    timeline: Timeline
    graph: Graph
    begin_ps: int = 0
    name: str = ""
    counters: tuple[Counter, ...] = ()


def chosen_runs(runs: int, tasks_per_run: int, most_slices: int = MOST_SLICES) -> tuple[int, ...]:
    """Which of `runs` runs a trace shows: all of them, or as many as fit, evenly spaced, with the first and
    the last (at least the last)."""
    fitting = max(most_slices // max(tasks_per_run, 1), 1)
    if fitting >= runs:
        return tuple(range(runs))
    return tuple(np.unique(np.linspace(runs - 1, 0, fitting).round().astype(int)).tolist())


def to_pftrace(runs: Iterable[TracedRun]) -> bytes:
    """The serialised trace: as many slices as the programs have tasks. Runs of one label share a process and
    must follow each other. Traces of runs with different labels may be concatenated: track, process and
    sequence numbers are derived from the labels."""
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

    sequence: _Sequence | None = None
    pieces: list[bytes] = []
    for run in runs:
        if sequence is None or sequence.label != run.label:
            sequence = _Sequence(run.label, pb, pieces)
        if run.name:
            sequence.mark(run.begin_ps, run.name)
        _slices(sequence, run)
        for counter in run.counters:
            sequence.values(counter, run.begin_ps)
    return b"".join(pieces)


def _number(label: str, bits: int) -> int:
    """A positive number of at most `bits` bits that belongs to `label`."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8]) % ((1 << (bits - 1)) - 1) + 1


def _varint(value: int) -> bytes:
    """A non-negative integer, seven bits per byte, least significant first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT = tuple(_varint(i) for i in range(1 << 14))


def _encoded(value: int) -> bytes:
    return _SHORT[value] if value < 1 << 14 else _varint(value)


def _tag(message: Any, field: str, wire: int) -> bytes:
    """What precedes a field of this name."""
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | wire)


class _Sequence:
    """The packets of one phase, with interned names: each string is written once, before its first use."""

    def __init__(self, label: str, pb: Any, pieces: list[bytes]) -> None:
        self.label = label
        self._pb, self._pieces = pb, pieces
        self._number = _number(label, bits=28)
        self._first = _number(label, bits=41)  # of the numbers of tracks
        self._known: dict[tuple[str, str], int] = {}
        self._lanes: dict[str, int] = {"": self._first}
        self._tracks: dict[tuple[str, str], int] = {}
        self._encode()
        cleared = pb.TracePacket(sequence_flags=pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED)
        self._add(cleared)
        process = pb.TracePacket()
        process.track_descriptor.uuid = self._first
        process.track_descriptor.process.pid = _number(label, bits=31)
        process.track_descriptor.process.process_name = label
        self._add(process)

    def _encode(self) -> None:
        """Pieces that many packets share."""
        packet, event, note = self._pb.TracePacket, self._pb.TrackEvent, self._pb.DebugAnnotation
        self._packet = _tag(self._pb.Trace, "packet", _BYTES)
        self._time = _tag(packet, "timestamp", _VARINT)
        needs = packet.SEQ_NEEDS_INCREMENTAL_STATE
        self._from = (
            _tag(packet, "trusted_packet_sequence_id", _VARINT) + _varint(self._number)
            + _tag(packet, "sequence_flags", _VARINT) + _varint(needs)
        )  # fmt: skip
        self._event = _tag(packet, "track_event", _BYTES)
        self._type, self._name = _tag(event, "type", _VARINT), _tag(event, "name_iid", _VARINT)
        self._track = _tag(event, "track_uuid", _VARINT)
        self._note = _tag(event, "debug_annotations", _BYTES)
        self._key = _tag(note, "name_iid", _VARINT)
        self._int = _tag(note, "int_value", _VARINT)
        self._text = _tag(note, "string_value_iid", _VARINT)

    def _add(self, packet: Any) -> None:
        """Append a packet that is a message."""
        packet.trusted_packet_sequence_id = self._number
        self._pieces.append(self._pb.Trace(packet=[packet]).SerializeToString())

    def track(self, resource: Resource) -> int:
        """The number of a resource's track, described now if it is new."""
        key = (resource.lane, resource.name)
        if key not in self._tracks:
            if resource.lane not in self._lanes:
                self._lanes[resource.lane] = self._describe(resource.lane, self._first)
            self._tracks[key] = self._describe(resource.name, self._lanes[resource.lane])
        return self._tracks[key]

    def _describe(self, name: str, parent: int, unit: str = "") -> int:
        """A new track; with a `unit`, one of values."""
        uuid = self._first + len(self._lanes) + len(self._tracks)
        packet = self._pb.TracePacket()
        described = packet.track_descriptor
        described.uuid, described.name, described.parent_uuid = uuid, name, parent
        if unit:
            described.counter.unit_name = unit
        self._add(packet)
        return uuid

    def intern(self, table: str, text: str) -> int:
        """The number of `text` in a table of `InternedData`, written now if it is new."""
        key = (table, text)
        if key not in self._known:
            self._known[key] = len(self._known) + 1
            packet = self._pb.TracePacket(sequence_flags=self._pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE)
            entry = getattr(packet.interned_data, table).add()
            entry.iid = self._known[key]
            if table == _TEXTS:
                entry.str = text.encode()
            else:
                entry.name = text
            self._add(packet)
        return self._known[key]

    def key(self, name: str, *, text: bool = False) -> bytes:
        """What precedes the value of an annotation of this name."""
        return self._key + _encoded(self.intern(_KEYS, name)) + (self._text if text else self._int)

    def annotation(self, key: bytes, value: int) -> bytes:
        """One annotation with a number, or with the number of an interned text."""
        body = key + _encoded(value)
        return self._note + _encoded(len(body)) + body

    def text(self, name: str, value: str) -> bytes:
        """One annotation with a text."""
        return self.annotation(self.key(name, text=True), self.intern(_TEXTS, value))

    def begin(self, track: int, kind: str) -> bytes:
        """The first part of a slice's event: what all slices of this kind on this track share."""
        name = self._name + _encoded(self.intern("event_names", kind))
        begins = _varint(self._pb.TrackEvent.TYPE_SLICE_BEGIN)
        return self._type + begins + self._track + _varint(track) + name

    def end(self, track: int) -> bytes:
        """The event that ends a slice."""
        return self._type + _varint(self._pb.TrackEvent.TYPE_SLICE_END) + self._track + _varint(track)

    def event(self, time_ps: int, event: bytes) -> None:
        """Append an event that is encoded already."""
        time = self._time + _encoded(time_ps // _PS_PER_NS)
        body = time + self._from + self._event + _encoded(len(event)) + event
        self._pieces.append(self._packet + _encoded(len(body)) + body)

    def mark(self, time_ps: int, text: str) -> None:
        """An instant on the track `runs`."""
        track = self.track(Resource("runs", 1))
        instant = _varint(self._pb.TrackEvent.TYPE_INSTANT)
        name = self._name + _encoded(self.intern("event_names", text))
        self.event(time_ps, self._type + instant + self._track + _varint(track) + name)

    def values(self, counter: Counter, begin_ps: int) -> None:
        """The values of a counter on its track, described now if it is new."""
        key = ("", counter.name)
        if key not in self._tracks:
            self._tracks[key] = self._describe(counter.name, self._first, counter.unit)
        event = self._pb.TrackEvent
        head = self._type + _varint(event.TYPE_COUNTER) + self._track + _varint(self._tracks[key])
        head += _tag(event, "counter_value", _VARINT)
        for time_ps, value in zip(counter.time_ps, counter.values, strict=True):
            self.event(begin_ps + time_ps, head + _encoded(value))


def _slices(sequence: _Sequence, run: TracedRun) -> None:
    """Begin and end events, track by track in time order, as the format wants them."""
    program, timeline = run.program, run.timeline
    tracks = [sequence.track(r) for r in program.resources]
    ends = [sequence.end(track) for track in tracks]
    begins = {
        (kind, resource): sequence.begin(tracks[resource], program.kind_names[kind])
        for kind, resource in sorted(set(zip(program.kind.tolist(), program.resource.tolist(), strict=True)))
    }
    kinds, resources = program.kind.tolist(), program.resource.tolist()
    start, free = timeline.start_ps.tolist(), timeline.free_ps.tolist()
    notes = _notes(sequence, run)
    for task in np.lexsort((timeline.start_ps, program.resource)).tolist():
        resource = resources[task]
        sequence.event(run.begin_ps + start[task], begins[kinds[task], resource] + notes[task])
        sequence.event(run.begin_ps + free[task], ends[resource])


def _notes(sequence: _Sequence, run: TracedRun) -> list[bytes]:
    """What a click on each slice shows."""
    program, timeline = run.program, run.timeline
    owners = {node: _owner(sequence, run.graph, node) for node in np.unique(program.node).tolist()}
    causes = {int(c): sequence.text("waited_for", c.name.lower()) for c in Cause}
    annotation = sequence.annotation
    numbers = [
        (sequence.key(name), column.tolist())
        for name, column in (
            ("start_ps", timeline.start_ps),
            ("busy_cycles", program.busy_cycles),
            ("latency_cycles", program.latency_cycles),
        )
    ]
    task_key, waited_key = sequence.key("task"), sequence.key("waited_for_task")
    cause, cause_task = timeline.cause.tolist(), timeline.cause_task.tolist()
    out = []
    for task, node in enumerate(program.node.tolist()):
        pieces = [annotation(task_key, task), owners[node]]
        pieces += [annotation(key, values[task]) for key, values in numbers]
        pieces.append(causes[cause[task]])
        if cause_task[task] >= 0:
            pieces.append(annotation(waited_key, cause_task[task]))
        out.append(b"".join(pieces))
    for what, names, table in (
        ("cycles", program.part_names, program.part_cycles),
        ("bytes", program.level_names, program.level_bytes),
    ):
        keys = [sequence.key(f"{what}: {name}") for name in names]
        tasks, columns = np.nonzero(table)
        amounts = table[tasks, columns].tolist()
        for task, column, amount in zip(tasks.tolist(), columns.tolist(), amounts, strict=True):
            out[task] += annotation(keys[column], amount)
    return out


def _owner(sequence: _Sequence, graph: Graph, node: int) -> bytes:
    """The node that a task belongs to; nothing for tasks of no node."""
    if node < 0:
        return b""
    owner = graph.nodes[node]
    found = sequence.text("node", owner.name) + sequence.text("op", owner.op)
    return found + (sequence.text("module", owner.source.module) if owner.source.module else b"")
