"""Resize of every opset, and Upsample, as one op whose sizes and scales are numbers."""

from __future__ import annotations

import math

import numpy as np

from tetrasim.frontend.onnx.builder import data_of
from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Attr, Value
from tetrasim.sim.ops.opdef import axis_of, float_attr, int_attr, ints_attr, str_attr

_SHAPE_HINT = "its result has a shape that only run-time data know: export it with constant scales or sizes"


def _numbers(call: Call, value: Value | None) -> tuple[float, ...]:
    """The numbers of a constant input; () when it is absent or empty."""
    if value is None or not value.type.elements:
        return ()
    array = data_of(value)
    if array is None:
        raise call.refuse(f"'{value.name}' is computed at run time", _SHAPE_HINT)
    return tuple(float(v) for v in np.asarray(array).reshape(-1))


def _resize(call: Call) -> tuple[Value, ...]:
    x = call.need(0)
    rank = len(x.type.shape)
    late = call.opset >= 11
    roi = _numbers(call, call.maybe(1)) if late else ()
    scales = _numbers(call, call.maybe(2 if late else 1))
    sizes = tuple(int(n) for n in _numbers(call, call.maybe(3))) if late else ()
    axes = tuple(axis_of(a, rank) for a in ints_attr(call.attrs, "axes", tuple(range(rank))))
    if (len(scales) or len(sizes)) != len(axes) or (scales and sizes):
        raise call.refuse(f"it needs either a scale or a size for each of {len(axes)} axes")
    extent = [x.type.shape[a] for a in axes]
    if scales:
        sizes = tuple(math.floor(np.float32(s) * np.float32(n)) for s, n in zip(scales, extent, strict=True))
    else:
        scales = tuple(n / e for n, e in zip(sizes, extent, strict=True))
        policy = str_attr(call.attrs, "keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            one = min(scales) if policy == "not_larger" else max(scales)
            scales = (one,) * len(scales)
            sizes = tuple(math.floor(e * one + 0.5) for e in extent)
    return _emit(call, x, axes, sizes, scales, roi, late)


def _emit(
    call: Call, x: Value, axes: tuple[int, ...], sizes: tuple[int, ...], scales: tuple[float, ...],
    roi: tuple[float, ...], late: bool,
) -> tuple[Value, ...]:  # fmt: skip
    rank = len(x.type.shape)
    all_sizes, all_scales = list(x.type.shape), [1.0] * rank
    region = [0.0] * rank + [1.0] * rank
    for i, axis in enumerate(axes):
        all_sizes[axis], all_scales[axis] = sizes[i], scales[i]
        if roi:
            region[axis], region[axis + rank] = roi[i], roi[i + len(axes)]
    attrs: dict[str, Attr] = {"sizes": tuple(all_sizes), "scales": tuple(all_scales)}
    for name, default in (("mode", "nearest"), ("nearest_mode", "round_prefer_floor")):
        attrs[name] = str_attr(call.attrs, name, default)
    coordinates = str_attr(call.attrs, "coordinate_transformation_mode", "half_pixel")
    if not late:  # the forms of opsets 7 to 10 keep the corner
        coordinates, attrs["nearest_mode"] = "asymmetric", "floor"
    attrs["coordinate_transformation_mode"] = coordinates
    if attrs["mode"] in ("bilinear", "trilinear"):
        attrs["mode"] = "linear"
    if coordinates == "tf_crop_and_resize":
        attrs |= {
            "roi": tuple(region),
            "extrapolation_value": float_attr(call.attrs, "extrapolation_value", 0.0),
        }
    if attrs["mode"] == "cubic":
        attrs["cubic_coeff_a"] = float_attr(call.attrs, "cubic_coeff_a", -0.75)
    for name in ("exclude_outside", "antialias"):
        if int_attr(call.attrs, name, 0):
            attrs[name] = 1
    if "exclude_outside" in attrs and attrs["mode"] != "cubic":
        del attrs["exclude_outside"]
    return call.emit("Resize", [x], attrs)


def _upsample(call: Call) -> tuple[Value, ...]:
    """Upsample: an early Resize; before opset 9 its scales are an attribute."""
    if call.opset >= 9:
        return _resize(call)
    x = call.need(0)
    given = call.attrs.get("scales", ())
    assert isinstance(given, tuple)
    scales = tuple(float(s) for s in given)
    sizes = tuple(math.floor(s * n) for s, n in zip(scales, x.type.shape, strict=True))
    return _emit(call, x, tuple(range(len(sizes))), sizes, scales, (), False)


RULES: dict[str, Rule] = {"Resize": _resize, "Upsample": _upsample}
