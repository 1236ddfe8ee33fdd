"""`trace.pftrace`: when every task ran, as Perfetto TrackEvents (open in ui.perfetto.dev).

One process per traced run, one track per resource, one slice per task from its start to the moment the
resource is free again. Perfetto counts integer nanoseconds, so each slice also carries its exact
picoseconds, its node and what its time was spent on. Names are interned: a trace of 100,000 tasks takes a
few megabytes. Source: protos/perfetto/trace/track_event/track_event.proto of the Perfetto project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tetrasim.sim.engine.program import Program
from tetrasim.sim.engine.timeline import Cause, Timeline
from tetrasim.sim.ir.graph import Graph
from tetrasim.units import PS_PER_S

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PS_PER_NS = PS_PER_S // 10**9
_SEQUENCE = 1


@dataclass(frozen=True, eq=False)
class TracedRun:
    """One run of one phase: `label` is shown as the process name ("gpu/t4 prefill")."""

    label: str
    program: Program
    timeline: Timeline
    graph: Graph


def to_pftrace(runs: Sequence[TracedRun]) -> bytes:
    """The serialised trace: as many slices as the programs have tasks."""
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

    trace = pb.Trace()
    first = trace.packet.add()
    first.trusted_packet_sequence_id = _SEQUENCE
    first.sequence_flags = pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    names = _Names(trace, pb)
    uuid = 1
    for index, run in enumerate(runs):
        process = uuid
        _describe(trace.packet.add(), process, run.label, pid=index + 1)
        lanes: dict[str, int] = {}
        tracks: list[int] = []
        for resource in run.program.resources:
            parent = process
            if resource.lane:
                if resource.lane not in lanes:
                    uuid += 1
                    lanes[resource.lane] = uuid
                    _describe(trace.packet.add(), uuid, resource.lane, parent=process)
                parent = lanes[resource.lane]
            uuid += 1
            tracks.append(uuid)
            _describe(trace.packet.add(), uuid, resource.name, parent=parent)
        uuid += 1
        _slices(trace, names, run, tracks, pb)
    data: bytes = trace.SerializeToString()
    return data


def _describe(packet: Any, uuid: int, name: str, *, parent: int = 0, pid: int = 0) -> None:
    packet.trusted_packet_sequence_id = _SEQUENCE
    packet.track_descriptor.uuid = uuid
    if pid:
        packet.track_descriptor.process.pid = pid
        packet.track_descriptor.process.process_name = name
    else:
        packet.track_descriptor.name = name
        packet.track_descriptor.parent_uuid = parent


class _Names:
    """Interned slice and argument names: each string is written once, before its first use."""

    def __init__(self, trace: Any, pb: Any) -> None:
        self._trace = trace
        self._pb = pb
        self._events: dict[str, int] = {}
        self._arguments: dict[str, int] = {}
        self._texts: dict[str, int] = {}

    def event(self, name: str) -> int:
        return self._intern(self._events, name, "event_names", "name")

    def argument(self, name: str) -> int:
        return self._intern(self._arguments, name, "debug_annotation_names", "name")

    def text(self, value: str) -> int:
        return self._intern(self._texts, value, "debug_annotation_string_values", "str")

    def _intern(self, known: dict[str, int], text: str, field: str, attribute: str) -> int:
        if text not in known:
            known[text] = len(known) + 1
            packet = self._trace.packet.add()
            packet.trusted_packet_sequence_id = _SEQUENCE
            packet.sequence_flags = self._pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
            entry = getattr(packet.interned_data, field).add()
            entry.iid = known[text]
            setattr(entry, attribute, text.encode() if attribute == "str" else text)
        return known[text]


def _slices(trace: Any, names: _Names, run: TracedRun, tracks: Sequence[int], pb: Any) -> None:
    """Begin and end events, track by track in time order, as the format wants them."""
    program, timeline = run.program, run.timeline
    order = sorted(
        range(program.tasks), key=lambda t: (int(program.resource[t]), int(timeline.start_ps[t]), t)
    )
    for task in order:
        track = tracks[int(program.resource[task])]
        # All strings are interned before the event that uses them is added.
        arguments = _arguments(run, task)
        encoded = [(names.argument(k), names.text(v) if isinstance(v, str) else v) for k, v in arguments]
        name = names.event(program.kind_names[int(program.kind[task])])
        begin = _event(trace, track, timeline.start_ps, task, pb)
        begin.track_event.type = pb.TrackEvent.TYPE_SLICE_BEGIN
        begin.track_event.name_iid = name
        for (key, value), (_, original) in zip(encoded, arguments, strict=True):
            note = begin.track_event.debug_annotations.add()
            note.name_iid = key
            if isinstance(original, str):
                note.string_value_iid = value
            else:
                note.int_value = value
        end = _event(trace, track, timeline.free_ps, task, pb)
        end.track_event.type = pb.TrackEvent.TYPE_SLICE_END


def _event(trace: Any, track: int, times_ps: NDArray[np.int64], task: int, pb: Any) -> Any:
    packet = trace.packet.add()
    packet.trusted_packet_sequence_id = _SEQUENCE
    packet.sequence_flags = pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
    packet.timestamp = int(times_ps[task]) // _PS_PER_NS
    packet.track_event.track_uuid = track
    return packet


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
