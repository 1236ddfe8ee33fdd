"""A run over several targets: the model's graphs are imported once, when the first target needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tetrasim.errors import CapacityError, UnsupportedOpError, UserError
from tetrasim.flow import cache
from tetrasim.flow.loading import ModelFiles, beyond_context, load_model
from tetrasim.flow.request import command_line
from tetrasim.sim.workload import Workload

if TYPE_CHECKING:
    from tetrasim.flow.loading import LoadedModel
    from tetrasim.flow.setup import Setup


def load_what_simulating_needs() -> None:
    """Load what reading and simulating the graphs needs, while another process writes them."""
    from tetrasim.flow import numerics, phases, pricing  # noqa: F401
    from tetrasim.frontend import onnx  # noqa: F401
    from tetrasim.onnx_runtime import library
    from tetrasim.sim.engine import static  # noqa: F401

    library()


class Session:
    """What the targets of one run share: the graphs, imported when the first target needs them."""

    def __init__(
        self, files: ModelFiles, workload: Workload, model: str, *, numerics: bool, use_cache: bool
    ) -> None:
        self._files, self._workload, self._model = files, workload, model
        self._numerics, self._use_cache = numerics, use_cache
        self._loaded: LoadedModel | None = None
        self._found: dict[str, cache.Entry | None] = {}

    def entry(self, setup: Setup) -> cache.Entry:
        """The result and trace on one target, from the cache or simulated now.

        Raises:
            UserError: the target refuses the model; the message says which target.
        """
        found = self._cached(setup)
        if found is None:
            found = self._simulate(setup)
            cache.store(self._key(setup), found)
        # The content may have been computed under another name: a copied file, another spelling.
        command = command_line(self._model, [setup.named], self._workload, dict(setup.overrides), self._files)
        result = replace(
            found.result,
            model=self._files.name,
            provenance=replace(found.result.provenance, command=command),
            warnings=(*found.result.warnings, *setup.notes),
        )
        return replace(found, result=result)

    def entries(
        self, setups: Sequence[Setup], report: Callable[[str, float], None]
    ) -> tuple[dict[int, cache.Entry], dict[int, UserError]]:
        """Results, and refusals, by the target's place. All targets are asked before any is simulated."""
        refused = {i: no for i, setup in enumerate(setups) if (no := self.refusal(setup)) is not None}
        found: dict[int, cache.Entry] = {}
        for i, setup in enumerate(setups):
            if i in refused:
                continue
            report(f"simulating {setup.preset}", (i + 1) / (len(setups) + 1))
            try:
                found[i] = self.entry(setup)
            except (CapacityError, UnsupportedOpError) as refusal:
                refused[i] = refusal
        return found, dict(sorted(refused.items()))

    def refusal(self, setup: Setup) -> UserError | None:
        """Why the target cannot run the model (an op, or what does not fit), before anything is simulated."""
        if self._cached(setup) is not None:
            return None
        from tetrasim.flow.phases import capacity_of, lowered_phases, settled

        graphs = self._model_graphs()  # a model that cannot be read is no target's refusal
        try:
            with self._named(setup):
                setup = settled(graphs, setup, self._workload)
                capacity_of(lowered_phases(graphs, setup, self._workload), setup)
        except UserError as refusal:
            return refusal
        return None

    def _cached(self, setup: Setup) -> cache.Entry | None:
        if not self._use_cache:
            return None
        key = self._key(setup)
        if key not in self._found:
            self._found[key] = cache.find(key)
        return self._found[key]

    def _model_graphs(self) -> LoadedModel:
        if self._loaded is None:
            self._loaded = load_model(self._files, self._workload)
        return self._loaded

    def _key(self, setup: Setup) -> str:
        from tetrasim.flow.provenance import code_sha256

        allowed = f"allow unmodelled {self._files.allow_unmodelled}"
        described = (setup.preset, setup.title, *setup.marks, f"numerics {self._numerics}", allowed)
        config = setup.config.model_dump_json()
        return cache.key_of(self._files.sha256, "\0".join(described), config, self._workload, code_sha256())

    def _simulate(self, setup: Setup) -> cache.Entry:
        from tetrasim.flow.phases import settled
        from tetrasim.flow.simulate import simulate
        from tetrasim.flow.traces import trace_of

        model = self._model_graphs()
        with self._named(setup):
            result = simulate(model, setup, self._workload, numerics=self._numerics)
        note = beyond_context(self._files, self._workload)
        if note:
            result = replace(result, warnings=(*result.warnings, note))
        setup = settled(model, setup, self._workload)
        trace, omitted = trace_of(result, model, setup, self._workload)
        if omitted:
            result = replace(result, warnings=(*result.warnings, omitted))
        return cache.Entry(result, trace)

    @contextmanager
    def _named(self, setup: Setup) -> Iterator[None]:
        """One of several targets refuses: the message says which, and names the model as the user does."""
        try:
            yield
        except UserError as refusal:
            place = f"{self._model} on {setup.preset}"
            inside = "" if isinstance(refusal, CapacityError) else refusal.where
            where = f"{place}: {inside}" if inside else place
            raise type(refusal)(refusal.what, where=where, hint=refusal.hint) from None


def all_refused(model: str, refused: Mapping[int, UserError]) -> UserError:
    """What to say when no target runs the model: the one refusal, or all of them."""
    if len(refused) == 1:
        return next(iter(refused.values()))
    lines = [f"  {no.where}: {no.what}" + (f" ({no.hint})" if no.hint else "") for no in refused.values()]
    return UserError("no target runs the model:\n" + "\n".join(lines), where=model)
