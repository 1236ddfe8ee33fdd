"""Plan -> hls4ml `ModelGraph`, through hls4ml's layer list and its Extension API.

hls4ml's own layers do the products (EinsumDense: io_parallel, Latency or distributed arithmetic; Dense
turned into
PointwiseConv1D where a reuse factor shares multipliers) and ReLU; everything else is one extension layer
class whose
configuration struct `cpp.py` writes. hls4ml is imported here and in `worker.py` only.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.cpp import extension
from tetrasim.hw_targets.fpga.hls.emulate import stored_numbers
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.parts import part_number
from tetrasim.hw_targets.fpga.hls.pipeline import Pipeline, forks, reuse_of
from tetrasim.hw_targets.fpga.hls.plan import Plan

FIRMWARE = Path(__file__).parent / "firmware"
HEADERS = ("tetrasim_nnet.h", "tetrasim_stream.h")
PROJECT = "tetrasim_top"
LayerDict = dict[str, Any]  # hls4ml's own interface: plain dictionaries


def layer_list(plan: Plan, options: HlsOptions) -> tuple[list[LayerDict], dict[str, LayerDict]]:
    """hls4ml's layer list and the per-layer configuration."""
    layers: list[LayerDict] = []
    settings: dict[str, LayerDict] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    wires = _Wires(plan)
    for layer in plan.layers:
        t = plan.types[layer.name]
        common: LayerDict = {
            "name": layer.name,
            "inputs": [wires.take(i) for i in layer.inputs],
            "outputs": wires.outputs(layer),
        }
        precision: LayerDict = {"result": t.result.hls4ml}
        shape = _packed(layer.shape) if plan.streamed else layer.shape
        reuse = reuse_of(layer, options)
        if isinstance(layer, p.Input):
            new: LayerDict = {
                "class_name": "InputLayer",
                "name": layer.name,
                "input_shape": list(shape),
                "data_format": "channels_last",
            }
        elif isinstance(layer, p.Dense):
            k, n = layer.weight.shape
            shape = (layer.rows, n)
            source = layer.inputs[0]
            vector = layer.rows == 1 and (plan.streamed or options.strategy == "resource")
            wanted = (k,) if vector else (layer.rows, k)
            shape = (n,) if plan.streamed and vector else shape
            if shapes[source] != wanted and options.strategy != "latency" and not plan.streamed:
                common["inputs"] = [_reshaped(layers, settings, layer, wanted, plan)]
            new = {**common, **_dense(plan, layer, t, options)}
            assert t.weight is not None
            assert t.bias is not None
            assert t.accum is not None
            precision |= {"weight": t.weight.hls4ml, "bias": t.bias.hls4ml, "accum": _plain(t.accum)}
        elif isinstance(layer, p.Relu):
            shape = shapes[layer.inputs[0]]
            new = {**common, "class_name": "Activation", "activation": "relu", "n_in": layer.size}
        else:
            found = extension(plan, layer, reuse)
            assert found is not None
            new = {
                **common,
                "class_name": "TetrasimLayer",
                "ts_function": found[0],
                "ts_body": found[1],
                "ts_shape": list(shape),
            }
        layers.append(new)
        shapes[layer.name] = shape
        settings[layer.name] = {
            "Precision": precision,
            "ReuseFactor": reuse,
            "Strategy": _strategy(layer, options),
        }
    return layers, settings


class _Wires:
    """Names of streams: a forking layer has one per reader, taken in the order of the plan."""

    def __init__(self, plan: Plan) -> None:
        readers = plan.readers() if plan.streamed else {}
        forking = [x.name for x in plan.layers if plan.streamed and forks(plan, x)]
        self.copies = {n: [f"{n}_to_{i + 1}" for i in range(len(readers[n]))] for n in forking}
        self.left = {name: iter(copies) for name, copies in self.copies.items()}

    def take(self, name: str) -> str:
        """The next stream of layer `name`."""
        return next(self.left[name]) if name in self.left else name

    def outputs(self, layer: p.Layer) -> list[str]:
        return self.copies.get(layer.name, [layer.name])


def _packed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A stream of one row is a vector for hls4ml."""
    return shape[1:] if shape[0] == 1 else shape


def _dense(plan: Plan, layer: p.Dense, t: p.Types, options: HlsOptions) -> LayerDict:
    assert t.weight is not None
    assert t.bias is not None
    k, n = layer.weight.shape
    numbers, offset = stored_numbers(layer, plan.units.get(layer.inputs[0], np.ones(1)))
    weight, bias = t.weight.quantise(numbers), t.bias.quantise(offset)
    if plan.streamed or options.strategy == "resource":
        return {"class_name": "Dense", "n_in": k, "n_out": n, "weight_data": weight, "bias_data": bias}
    shape = (layer.rows, n)
    return {
        "class_name": "EinsumDense",
        "equation": "ab,bc->ac",
        "inp_shape": (layer.rows, k),
        "out_shape": shape,
        "weight_data": weight,
        "bias_data": np.broadcast_to(bias, shape),
        "parallelization_factor": 1,  # one row after the other, as the estimate assumes
    }


def _reshaped(
    layers: list[LayerDict],
    settings: dict[str, LayerDict],
    layer: p.Dense,
    shape: tuple[int, ...],
    plan: Plan,
) -> str:
    """A Reshape before a Dense, which hls4ml types by the shape of its input."""
    name, source = f"{layer.name}_rows", layer.inputs[0]
    layers.append(
        {
            "class_name": "Reshape",
            "name": name,
            "inputs": [source],
            "outputs": [name],
            "target_shape": list(shape),
        }
    )
    settings[name] = {"Precision": {"result": plan.types[source].result.hls4ml}}
    return name


def _plain(of: p.Fixed) -> str:
    """An exact accumulator needs neither rounding nor saturation."""
    return f"fixed<{of.bits},{of.integer}>"


def _strategy(layer: p.Layer, options: HlsOptions) -> str:
    """hls4ml refuses distributed arithmetic on anything but a product."""
    if options.strategy == "distributed_arithmetic":
        return "distributed_arithmetic" if isinstance(layer, p.Dense) else "Latency"
    return options.strategy.capitalize()


def model_graph(plan: Plan, options: HlsOptions, folder: Path, pipeline: Pipeline | None = None) -> Any:
    """The hls4ml model, written nowhere yet; `pipeline` gives the streams of a streamed plan their depths."""
    from hls4ml.backends import get_backend
    from hls4ml.model.graph import ModelGraph

    _register(options.backend)
    backend = get_backend(options.backend)
    config = backend.create_initial_config(
        part=part_number(options.part),
        clock_period=options.clock_ns,
        io_type="io_stream" if plan.streamed else "io_parallel",
    )
    layers, settings = layer_list(plan, options)
    bits = max(t.result.bits for t in plan.types.values())
    config |= {"OutputDir": str(folder), "ProjectName": PROJECT, "Backend": options.backend}
    config["HLSConfig"] = {
        "Model": {
            "Precision": f"fixed<{bits},{bits // 2}>",
            "ReuseFactor": options.reuse,
            "Strategy": "Resource" if options.strategy == "resource" else "Latency",
            "PipelineStyle": "dataflow",
        },
        "LayerName": settings,
    }
    inputs, outputs = [x.name for x in plan.inputs], list(plan.outputs)
    model = ModelGraph.from_layer_list(config, layers, inputs, outputs)
    if pipeline is not None:
        _set_depths(model, pipeline)
    return model


def _set_depths(model: Any, pipeline: Pipeline) -> None:
    """The simulated depth of every stream; a copy that no simulation knows would be our defect."""
    depths = {(f.layer, f.copy): f.depth for f in pipeline.fifos}
    outer = {v.name for v in (*model.get_input_variables(), *model.get_output_variables())}
    for node in model.get_layers():
        source = node.inputs[0] if node.class_name == "Clone" else node.name
        several = len(node.outputs) > 1
        for number, name in enumerate(node.outputs, 1):
            variable = node.variables[name]
            depth = depths[source, number if several else 0]
            if variable.name not in outer:
                variable.pragma = ("stream", depth)


@cache
def _register(backend_name: str) -> None:
    """Make the extension layer known to hls4ml, once per process and backend."""
    from hls4ml.backends import get_backend
    from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
    from hls4ml.model.layers import Layer, layer_map, register_layer

    if "TetrasimLayer" in layer_map:
        layer_class = layer_map["TetrasimLayer"]
    else:

        class TetrasimLayer(Layer):  # type: ignore[misc]
            """One of tetrasim's kernels: `ts_function` called with the struct `ts_body`."""

            def initialize(self) -> None:
                shape = list(self.get_attr("ts_shape"))
                for i, name in enumerate(self.outputs):
                    variable = f"layer{{index}}_out{i + 1 if len(self.outputs) > 1 else ''}"
                    self.add_output_variable(shape, out_name=name, var_name=variable)

        layer_class = TetrasimLayer
        register_layer("TetrasimLayer", layer_class)

    class Config(LayerConfigTemplate):  # type: ignore[misc]
        """The struct."""

        def __init__(self) -> None:
            super().__init__(layer_class)

        def format(self, node: Any) -> str:
            return f"struct config{node.index} {{\n{node.get_attr('ts_body')}\n}};\n"

    class Call(FunctionCallTemplate):  # type: ignore[misc]
        """The function call."""

        def __init__(self) -> None:
            super().__init__(layer_class, include_header=[f"nnet_utils/{h}" for h in HEADERS])

        def format(self, node: Any) -> str:
            ins = [node.get_input_variable(name) for name in node.inputs]
            outs = [node.variables[name] for name in node.outputs]
            types = ", ".join([*(v.type.name for v in ins), outs[0].type.name, f"config{node.index}"])
            arrays = ", ".join(v.name for v in (*ins, *outs))
            return f"nnet::{node.get_attr('ts_function')}<{types}>({arrays});"

    backend = get_backend(backend_name)
    backend.register_template(Config)
    backend.register_template(Call)
    for header in HEADERS:
        backend.register_source(FIRMWARE / header)
