"""A run over several targets: the model's graphs are imported once, when the first target needs them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tetrasim import cache
from tetrasim.errors import UserError
from tetrasim.loading import ModelFiles, beyond_context, load_model
from tetrasim.request import Overrides, command_line
from tetrasim.sim.workload import Workload

if TYPE_CHECKING:
    from tetrasim.reports.perfetto import TracedRun
    from tetrasim.run_phases import LoadedModel, Setup


class Session:
    """What the targets of one run share: the graphs, imported when the first target needs them."""

    def __init__(
        self, files: ModelFiles, workload: Workload, model: str, *, numerics: bool, use_cache: bool
    ) -> None:
        self._files, self._workload, self._model = files, workload, model
        self._numerics, self._use_cache = numerics, use_cache
        self._loaded: LoadedModel | None = None

    def entry(self, setup: Setup, overrides: Overrides) -> cache.Entry:
        """The result and trace on one target, from the cache or simulated now.

        Raises:
            UserError: the target refuses the model; the message says which target.
        """
        key = self._key(setup)
        found = cache.find(key) if self._use_cache else None
        if found is None:
            found = self._simulate(setup, overrides)
            cache.store(key, found)
        # The content may have been computed under another name: a copied file, another spelling.
        command = command_line(self._model, [setup.preset], self._workload, overrides, self._files.kind)
        made_by = replace(found.result.provenance, command=command)
        return replace(found, result=replace(found.result, model=self._files.name, provenance=made_by))

    def _key(self, setup: Setup) -> str:
        from tetrasim.provenance import code_sha256

        described = (setup.preset, setup.title, *setup.marks, f"numerics {self._numerics}")
        config = setup.config.model_dump_json()
        return cache.key_of(self._files.sha256, "\0".join(described), config, self._workload, code_sha256())

    def _simulate(self, setup: Setup, overrides: Overrides) -> cache.Entry:
        from tetrasim.reports.perfetto import to_pftrace
        from tetrasim.simulate import simulate as simulate_on_target

        if self._loaded is None:
            self._loaded = load_model(self._files, self._workload)
        try:
            result = simulate_on_target(
                self._loaded, setup.preset, self._workload, overrides=overrides, numerics=self._numerics
            )
        except UserError as refusal:
            # One of several targets refuses: say which, whatever the target's own message names.
            where = f"{setup.preset}: {refusal.where}" if refusal.where else setup.preset
            raise type(refusal)(refusal.what, where=where, hint=refusal.hint) from None
        note = beyond_context(self._files, self._workload)
        if note:
            result = replace(result, warnings=(*result.warnings, note))
        return cache.Entry(result, to_pftrace(traced_runs(self._loaded, setup, self._workload)))


def traced_runs(model: LoadedModel, setup: Setup, workload: Workload) -> list[TracedRun]:
    """One run per phase for the trace: the only one of a prefill, the last one of a generation."""
    from tetrasim.reports.perfetto import TracedRun
    from tetrasim.run_phases import lowered_phases
    from tetrasim.sim.engine.runs import simulate_one

    runs = []
    for phase, family, contexts in lowered_phases(model, setup, workload):
        graph = family.at(contexts[-1])
        program, timeline = simulate_one(lambda g: setup.target.lower(g, setup.config), graph)
        detail = f" step at context {contexts[-1]}" if phase.name == "decode" else ""
        runs.append(TracedRun(f"{setup.preset} {phase.name}{detail}", program, timeline, graph))
    return runs
