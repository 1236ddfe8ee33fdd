"""`trace.pftrace` of many runs: which are shown, when they begin, and that names are written once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import fake
import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from tetrasim.flow.traces import traced_phases
from tetrasim.reports.perfetto import MOST_SLICES, chosen_runs, to_pftrace


def test_all_runs_are_shown_while_they_fit() -> None:
    assert chosen_runs(127, 113) == tuple(range(127))
    assert chosen_runs(0, 113) == ()


@pytest.mark.parametrize(("runs", "tasks", "most"), [(1023, 296, 200_000), (10, 30, 100), (7, 10, 69)])
def test_else_evenly_chosen_ones_with_the_first_and_the_last(runs: int, tasks: int, most: int) -> None:
    chosen = chosen_runs(runs, tasks, most)
    assert chosen[0] == 0
    assert chosen[-1] == runs - 1
    assert len(chosen) == most // tasks
    gaps = {b - a for a, b in pairwise(chosen)}
    assert max(gaps) - min(gaps) <= 1


def test_the_last_run_is_shown_whatever_it_takes() -> None:
    assert chosen_runs(5, 10**6) == (4,)
    assert chosen_runs(5, 10, 0) == (4,)


def test_runs_of_a_phase_follow_each_other_on_the_same_tracks() -> None:
    run = fake.traced(tasks=6)
    length_ps = run.timeline.total_ps
    runs = [replace(run, begin_ps=i * length_ps, name=f"context {32 + i}") for i in range(3)]
    data = to_pftrace(runs)
    assert data == to_pftrace(iter(runs))
    trace = pb.Trace.FromString(data)
    events = [p for p in trace.packet if p.HasField("track_event")]
    types = Counter(p.track_event.type for p in events)
    assert types == {
        pb.TrackEvent.TYPE_SLICE_BEGIN: 18,
        pb.TrackEvent.TYPE_SLICE_END: 18,
        pb.TrackEvent.TYPE_INSTANT: 3,
    }
    names = {e.iid: e.name for p in trace.packet for e in p.interned_data.event_names}
    marks = [
        (names[p.track_event.name_iid], p.timestamp)
        for p in events
        if p.track_event.type == pb.TrackEvent.TYPE_INSTANT
    ]
    assert marks == [(f"context {32 + i}", i * length_ps // 1000) for i in range(3)]
    processes = [p for p in trace.packet if p.track_descriptor.HasField("process")]
    assert len(processes) == 1
    interned = [e.str for p in trace.packet for e in p.interned_data.debug_annotation_string_values]
    assert len(interned) == len(set(interned))
    assert {p.trusted_packet_sequence_id for p in trace.packet} == {events[0].trusted_packet_sequence_id}


def test_slices_on_one_track_never_overlap() -> None:
    run = fake.traced(tasks=9)
    runs = [replace(run, begin_ps=i * run.timeline.total_ps) for i in range(4)]
    open_on: dict[int, bool] = {}
    last: dict[int, int] = {}
    for packet in pb.Trace.FromString(to_pftrace(runs)).packet:
        if not packet.HasField("track_event"):
            continue
        track, begins = packet.track_event.track_uuid, packet.track_event.type == 1
        assert open_on.get(track, False) is not begins
        assert packet.timestamp >= last.get(track, 0)
        open_on[track], last[track] = begins, packet.timestamp
    assert not any(open_on.values())


def test_phases_follow_each_other_and_omitted_steps_are_told() -> None:
    found = fake.result()
    prefill, decode = found.phases
    (first, steps), note = traced_phases(found)
    assert (first.shown, first.begin_ps) == ((0,), (0,))
    assert steps.shown == tuple(range(31))
    assert steps.begin_ps[0] == round(prefill.run_ns[0] * 1000)
    assert steps.begin_ps[1] - steps.begin_ps[0] == round(decode.run_ns[0] * 1000)
    assert note == ""
    large = replace(found, phases=(prefill, replace(decode, tasks=31 * MOST_SLICES // 10)))
    (_, few), note = traced_phases(large)
    assert len(few.shown) == 9  # the prefill takes some of the room
    assert few.shown[-1] == 30
    assert note.startswith("trace.pftrace shows 9 of the 31 decode steps")
