"""Random products, convolutions, pools, norms, images and recurrent layers."""

from __future__ import annotations

import numpy as np
from random_operators import Draw, Drawn, draws


@draws("MatMul")
def matmul(d: Draw) -> Drawn:
    m, k, n = (d.integer(1, 5) for _ in range(3))
    lead = d.shape(0, 2)
    a = d.floats(d.pick((k,), (m, k), (*d.broadcastable(lead), m, k)))
    b = d.floats(d.pick((k,), (k, n), (*lead, k, n)))
    if d.flag():
        return Drawn("MatMul", {"a": a}, constants={"b": b}, opset=13)
    return Drawn("MatMul", {"a": a, "b": b}, opset=13)


@draws("MatMul", "Gemm")
def integer_product(d: Draw, op: str) -> Drawn:
    dtype = d.pick("int32", "int64", "float64")
    return Drawn(op, {"a": d.numbers((3, 4), dtype), "b": d.numbers((4, 2), dtype)}, opset=13)


@draws("Gemm")
def gemm(d: Draw) -> Drawn:
    m, k, n = (d.integer(1, 5) for _ in range(3))
    ta, tb = d.flag(), d.flag()
    a, b = d.floats((k, m) if ta else (m, k)), d.floats((n, k) if tb else (k, n))
    attrs = {"transA": ta, "transB": tb} | d.some(alpha=0.5, beta=d.pick(0.0, 2.0))
    opset = d.pick(6, 7, 9, 11, 13)
    bias = d.floats(d.pick((n,), (1, n), (m, 1), (m, n), (1,), ()))
    if opset == 6:
        attrs |= {"broadcast": 1}
        bias = d.floats(d.pick((n,), (1, n), (m, n)))
    feeds = {"a": a, "b": b, "c": bias} if opset < 11 or d.flag() else {"a": a, "b": b}
    return Drawn("Gemm", feeds, attrs, opset=opset)


EQUATIONS = (
    ("ij,jk->ik", "ij", "jk"),
    ("ij,jk", "ij", "jk"),
    ("bij,bjk->bik", "bij", "bjk"),
    ("bhqd,bhkd->bhqk", "bhqd", "bhkd"),
    ("bqhd,bkhd->bhqk", "bqhd", "bkhd"),
    ("ij->ji", "ij"),
    ("ij->i", "ij"),
    ("ij->", "ij"),
    ("ij,ij->ij", "ij", "ij"),
    ("i,j->ij", "i", "j"),
    ("i,i->", "i", "i"),
    ("ii->i", "ii"),
    ("ii->", "ii"),
    ("bii->bi", "bii"),
    ("...ij,jk->...ik", "abij", "jk"),
    ("...ij,...jk->...ik", "bij", "bjk"),
    ("...ij,...jk", "ij", "jk"),
    ("b...d,b...d->b...", "bxyd", "bxyd"),
    ("...i->...", "abi"),
    ("i...->i...", "iab"),
    ("ij,jk,kl->il", "ij", "jk", "kl"),
    ("bi,ij,bj->b", "bi", "ij", "bj"),
    ("bn,anm,bm->ba", "bn", "anm", "bm"),
    ("i,j,k->ijk", "i", "j", "k"),
    ("ab,bc,cd,de->ae", "ab", "bc", "cd", "de"),
    (" i j , j k -> i k ", "ij", "jk"),
    ("Ij,jK->IK", "Ij", "jK"),
    ("bhld,bhsd,bhse->bhle", "bhld", "bhsd", "bhse"),
)


@draws("Einsum")
def einsum(d: Draw) -> Drawn:
    equation, *terms = d.pick(*EQUATIONS)
    sizes = {c: d.integer(1, 4) for c in "".join(terms)}
    feeds = {f"x{i}": d.floats([sizes[c] for c in term], scale=1.0) for i, term in enumerate(terms)}
    return Drawn("Einsum", feeds, {"equation": equation}, opset=12)


def window(d: Draw, rank: int, *, pads: bool = True) -> dict[str, object]:
    """Strides, dilations and pads of a window op."""
    kernel = [d.integer(1, 3) for _ in range(rank)]
    attrs: dict[str, object] = {"kernel_shape": kernel}
    attrs |= d.some(strides=[d.integer(1, 3) for _ in range(rank)])
    if pads and d.flag():
        attrs["pads"] = [d.integer(0, k - 1) for k in kernel * 2]
    return attrs


@draws("Conv")
def conv(d: Draw) -> Drawn:
    rank, groups = d.integer(1, 3), d.integer(1, 2)
    attrs = window(d, rank)
    dilated = d.flag()
    if dilated:
        attrs["dilations"] = [d.integer(1, 2) for _ in range(rank)]
    if not dilated and d.integer(0, 2) == 0:
        attrs.pop("pads", None)
        attrs["auto_pad"] = d.pick("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
    kernel = attrs["kernel_shape"]
    if d.flag():
        attrs.pop("kernel_shape")
    x = d.floats((d.integer(1, 2), 2 * groups, *(d.integer(5, 8) for _ in range(rank))))
    w = d.floats((3 * groups, 2, *kernel))  # type: ignore[misc]
    feeds = {"x": x, "w": w} | ({"b": d.floats((3 * groups,))} if d.flag() else {})
    return Drawn("Conv", feeds, attrs | {"group": groups}, opset=11)


@draws("ConvTranspose")
def conv_transpose(d: Draw) -> Drawn:
    rank, groups = d.integer(1, 2), d.integer(1, 2)
    attrs = window(d, rank)
    strides = attrs.get("strides", [1] * rank)
    size = [d.integer(2, 4) for _ in range(rank)]
    attrs |= d.some(dilations=[d.integer(1, 2) for _ in range(rank)])
    style = d.pick("pads", "pads", "padding", "shape", "SAME_UPPER", "SAME_LOWER", "VALID")
    if style == "padding":
        attrs["output_padding"] = [d.integer(0, s - 1) for s in strides]  # type: ignore[union-attr]
    elif style != "pads":
        attrs.pop("pads", None)
        if style == "shape":
            attrs |= d.some(auto_pad=d.pick("SAME_UPPER", "SAME_LOWER", "NOTSET"))
            attrs["output_shape"] = [n * s + d.integer(0, 1) for n, s in zip(size, strides, strict=True)]  # type: ignore[arg-type]
        else:
            attrs["auto_pad"] = style
    kernel = attrs["kernel_shape"]
    x, w = d.floats((2, 2 * groups, *size)), d.floats((2 * groups, 3, *kernel))  # type: ignore[misc]
    feeds = {"x": x, "w": w} | ({"b": d.floats((3 * groups,))} if d.flag() else {})
    return Drawn("ConvTranspose", feeds, attrs | {"group": groups}, opset=11)


@draws("MaxPool", "AveragePool", "LpPool")
def pool(d: Draw, op: str) -> Drawn:
    rank = d.integer(1, 3)
    attrs = window(d, rank)
    if d.integer(0, 3) == 0:
        attrs.pop("pads", None)
        attrs.pop("strides", None)  # with a stride longer than the kernel the runtimes disagree
        attrs["auto_pad"] = d.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    else:
        attrs |= d.some(ceil_mode=d.flag())
        if d.integer(0, 3) == 0:
            attrs["dilations"] = [d.integer(1, 2) for _ in range(rank)]
    if op == "AveragePool":
        attrs |= d.some(count_include_pad=d.flag())
    if op == "LpPool":
        attrs |= d.some(p=d.integer(1, 3))
        attrs.pop("ceil_mode", None)
    x = d.floats((2, 2, *(d.integer(5, 8) for _ in range(rank))))
    outputs = 2 if op == "MaxPool" and d.integer(0, 2) == 0 else 1
    if outputs == 2 and d.flag():
        attrs["storage_order"] = 1
    return Drawn(
        op, {"x": x}, attrs, outputs=outputs, opset={"MaxPool": 12, "AveragePool": 19, "LpPool": 18}[op]
    )


@draws("MaxPool")
def integer_pool(d: Draw) -> Drawn:
    x = d.numbers((1, 2, 6, 6), d.pick("int8", "uint8"))
    return Drawn("MaxPool", {"x": x}, {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}, opset=12)


@draws("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(d: Draw, op: str) -> Drawn:
    attrs = d.some(p=d.integer(1, 3)) if op == "GlobalLpPool" else {}
    return Drawn(op, {"x": d.floats((2, 3, *d.shape(1, 3)))}, attrs, opset=2)


@draws("MaxUnpool")
def max_unpool(d: Draw) -> Drawn:
    x = d.floats((1, 2, 2, 2))
    index = np.argsort(d.random.random((1, 2, 16)), axis=-1)[:, :, :4].reshape(x.shape)
    index = index + np.array([0, 16]).reshape(1, 2, 1, 1)
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2]}
    return Drawn("MaxUnpool", {"x": x, "i": index}, attrs, opset=11)


@draws("BatchNormalization")
def batch_norm(d: Draw) -> Drawn:
    c = d.integer(1, 4)
    x = d.floats((2, c, *d.shape(0, 3)))
    feeds = {"x": x, "s": d.floats((c,)), "b": d.floats((c,)), "m": d.floats((c,)), "v": d.positive((c,))}
    attrs = d.some(epsilon=0.1, momentum=0.5)
    opset = d.pick(7, 9, 14, 15)
    return Drawn("BatchNormalization", feeds, attrs, opset=opset)


@draws("InstanceNormalization")
def instance_norm(d: Draw) -> Drawn:
    c = d.integer(1, 4)
    x = d.floats((2, c, *d.shape(1, 3)))
    return Drawn(
        "InstanceNormalization",
        {"x": x, "s": d.floats((c,)), "b": d.floats((c,))},
        d.some(epsilon=0.1),
        opset=6,
    )


@draws("LayerNormalization")
def layer_norm(d: Draw) -> Drawn:
    x = d.floats(d.shape(2, largest=6), d.pick("float32", "float32", "float16"))
    axis = d.axis(x.ndim)
    inner = x.shape[axis:]
    feeds = {"x": x, "s": d.floats(inner, x.dtype)} | ({"b": d.floats(inner, x.dtype)} if d.flag() else {})
    attrs = {"axis": axis} | d.some(epsilon=0.1, stash_type=1)
    outputs = 3 if d.integer(0, 2) == 0 and x.dtype == np.float32 else 1
    return Drawn("LayerNormalization", feeds, attrs, outputs=outputs, opset=17)


@draws("RMSNormalization")
def rms_norm(d: Draw) -> Drawn:
    x = d.floats(d.shape(2, largest=6))
    axis = d.axis(x.ndim)
    attrs = {"axis": axis} | d.some(epsilon=0.1)
    return Drawn("RMSNormalization", {"x": x, "s": d.floats(x.shape[axis:])}, attrs, opset=23)


@draws("GroupNormalization")
def group_norm(d: Draw) -> Drawn:
    groups = d.integer(1, 3)
    c = groups * d.integer(1, 3)
    opset = d.pick(18, 21)
    each = (groups,) if opset == 18 else (c,)
    feeds = {"x": d.floats((2, c, *d.shape(1, 2))), "s": d.floats(each), "b": d.floats(each)}
    return Drawn("GroupNormalization", feeds, {"num_groups": groups} | d.some(epsilon=0.1), opset=opset)


@draws("LpNormalization")
def lp_norm(d: Draw) -> Drawn:
    x = d.floats(d.shape())
    return Drawn("LpNormalization", {"x": x}, d.some(axis=d.axis(x.ndim), p=d.integer(1, 2)), opset=1)


@draws("MeanVarianceNormalization")
def mean_variance(d: Draw) -> Drawn:
    return Drawn("MeanVarianceNormalization", {"x": d.floats((2, 3, 4, 2))}, d.some(axes=[0, 2]), opset=13)


@draws("LRN")
def local_response(d: Draw) -> Drawn:
    attrs = {"size": d.pick(1, 3, 5)} | d.some(alpha=0.02, beta=0.6, bias=1.5)
    return Drawn("LRN", {"x": d.floats((2, d.integer(1, 7), *d.shape(2, 2)))}, attrs, opset=13)


@draws("Dropout")
def dropout(d: Draw) -> Drawn:
    x = d.floats(d.shape())
    opset = d.pick(7, 10, 12, 13)
    if opset < 12:
        return Drawn("Dropout", {"x": x}, d.some(ratio=0.3), opset=opset)
    constants = {"r": np.asarray(0.4, np.float32)} if d.flag() else {}
    return Drawn("Dropout", {"x": x}, {}, constants, outputs=d.integer(1, 2), opset=opset)


COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")


@draws("Resize")
def resize(d: Draw) -> Drawn:
    mode = d.pick("nearest", "linear", "cubic")
    shape = (1, 2, d.integer(2, 6), d.integer(2, 6))
    attrs: dict[str, object] = {"mode": mode}
    attrs["coordinate_transformation_mode"] = d.pick(*COORDINATES)
    if mode == "nearest":
        attrs |= d.some(nearest_mode=d.pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
    if mode == "cubic":
        attrs |= d.some(cubic_coeff_a=-0.5, exclude_outside=d.flag())
    if d.flag():
        scales = np.array([1, 1, d.pick(0.5, 1.5, 2.0, 3.0), d.pick(0.6, 1.0, 2.0)], np.float32)
        return Drawn("Resize", {"x": d.floats(shape)}, attrs, {"s": scales}, inputs=("x", "", "s"), opset=19)
    sizes = np.array([*shape[:2], d.integer(1, 9), d.integer(1, 9)], np.int64)
    return Drawn("Resize", {"x": d.floats(shape)}, attrs, {"n": sizes}, inputs=("x", "", "", "n"), opset=19)


@draws("Resize")
def resize_some_axes(d: Draw) -> Drawn:
    """Opset 18: axes, antialias, aspect-ratio policies."""
    mode = d.pick("nearest", "linear", "cubic")
    attrs: dict[str, object] = {"mode": mode, "axes": [2, 3]}
    if mode != "nearest":
        attrs |= d.some(antialias=1)
    if d.flag():
        attrs["keep_aspect_ratio_policy"] = d.pick("not_larger", "not_smaller")
    sizes = np.array([d.integer(2, 9), d.integer(2, 9)], np.int64)
    x = d.floats((1, 2, 5, 6))
    return Drawn("Resize", {"x": x}, attrs, {"n": sizes}, inputs=("x", "", "", "n"), opset=18)


@draws("Resize", "Upsample")
def upsample(d: Draw, op: str) -> Drawn:
    """The forms of opsets 9 and 10."""
    scales = np.array([1, 1, d.pick(1.0, 2.0, 3.0), d.pick(1.0, 2.0)], np.float32)
    x = d.floats((1, 2, 3, 4))
    mode = d.pick("nearest", "linear")
    return Drawn(op, {"x": x}, {"mode": mode}, {"s": scales}, opset=10 if op == "Resize" else 9)


@draws("GridSample")
def grid_sample(d: Draw) -> Drawn:
    rank = d.pick(2, 2, 3)
    old = d.flag() and rank == 2
    modes = (
        ("bilinear", "nearest", "bicubic")
        if old
        else ("linear", "nearest", *(("cubic",) if rank == 2 else ()))
    )
    x = d.floats((2, 3, *(d.integer(3, 6) for _ in range(rank))))
    grid = d.random.uniform(-1.3, 1.3, (2, *(d.integer(2, 4) for _ in range(rank)), rank)).astype(np.float32)
    attrs = {"mode": d.pick(*modes)}
    attrs |= d.some(padding_mode=d.pick("zeros", "border", "reflection"), align_corners=d.flag())
    return Drawn("GridSample", {"x": x, "g": grid}, attrs, opset=16 if old else 20, tolerance=1e-3)


@draws("AffineGrid")
def affine_grid(d: Draw) -> Drawn:
    rank = d.integer(2, 3)
    theta = d.floats((2, rank, rank + 1))
    size = np.array([2, 3, *(d.integer(2, 4) for _ in range(rank))], np.int64)
    return Drawn("AffineGrid", {"t": theta}, d.some(align_corners=d.flag()), {"size": size}, opset=20)


@draws("RoiAlign")
def roi_align(d: Draw) -> Drawn:
    x = d.floats((2, 3, 8, 8))
    low = d.random.uniform(0, 4, (3, 2))
    rois = np.concatenate([low, low + d.random.uniform(1, 4, (3, 2))], axis=1).astype(np.float32)
    attrs = {
        "output_height": d.integer(1, 3),
        "output_width": d.integer(1, 3),
        "sampling_ratio": d.integer(0, 2),
    }
    attrs |= d.some(mode=d.pick("avg", "max"), spatial_scale=0.5)
    attrs |= {"coordinate_transformation_mode": d.pick("half_pixel", "output_half_pixel")}
    return Drawn("RoiAlign", {"x": x, "r": rois, "b": d.integers((3,), 0, 1)}, attrs, opset=16)


@draws("DeformConv")
def deform_conv(d: Draw) -> Drawn:
    groups, offset_groups, kernel = d.integer(1, 2), d.integer(1, 2), (2, 3)
    x = d.floats((1, 4, 5, 6))
    w = d.floats((4, 4 // groups, *kernel))
    out = (4, 4)
    taps = kernel[0] * kernel[1]
    feeds = {"x": x, "w": w, "o": d.floats((1, offset_groups * 2 * taps, *out), scale=0.7)}
    names = ["x", "w", "o"]
    if d.flag():
        feeds["b"] = d.floats((4,))
        names.append("b")
    if d.flag():
        feeds["m"] = d.positive((1, offset_groups * taps, *out))
        names += [""] * (4 - len(names)) + ["m"]
    attrs = {"group": groups, "offset_group": offset_groups}
    return Drawn("DeformConv", feeds, attrs, inputs=names, opset=19, tolerance=1e-3)


@draws("Det")
def determinant(d: Draw) -> Drawn:
    n = d.integer(1, 4)
    return Drawn("Det", {"x": d.floats((*d.shape(0, 2), n, n))}, opset=11)


@draws("DFT")
def dft(d: Draw) -> Drawn:
    complex_input = d.flag()
    shape = (*d.shape(1, 3, 8), 2 if complex_input else 1)
    axis = d.integer(0, len(shape) - 2)
    attrs: dict[str, int] = d.some(inverse=d.flag() if complex_input else 0)
    if not complex_input and not attrs.get("inverse"):
        attrs |= d.some(onesided=d.flag())
    length = {"n": np.asarray(d.integer(1, 9), np.int64)} if d.flag() else {}
    if d.flag():
        return Drawn("DFT", {"x": d.floats(shape)}, attrs | {"axis": axis}, length, opset=17)
    constants = length | {"a": np.asarray(axis, np.int64)}
    return Drawn(
        "DFT", {"x": d.floats(shape)}, attrs, constants, inputs=("x", "n" if length else "", "a"), opset=20
    )


@draws("STFT")
def stft(d: Draw) -> Drawn:
    complex_input = d.integer(0, 3) == 0
    x = d.floats((2, 40, 2 if complex_input else 1))
    length = d.pick(8, 9, 16)
    constants = {"step": np.asarray(d.integer(1, 8), np.int64)}
    names = ["x", "step"]
    style = d.pick("window", "length", "both")
    if style != "length":
        constants["w"] = d.positive((length,))
        names.append("w")
    if style != "window":
        constants["n"] = np.asarray(length, np.int64)
        names += [""] * (3 - len(names)) + ["n"]
    onesided = 0 if complex_input else d.flag()
    return Drawn("STFT", {"x": x}, {"onesided": onesided}, constants, inputs=names, opset=17, tolerance=1e-3)


@draws("HannWindow", "HammingWindow", "BlackmanWindow")
def windows(d: Draw, op: str) -> Drawn:
    size = np.asarray(d.integer(2, 20), np.int64)
    return Drawn(op, {}, d.some(periodic=d.flag()), {"n": size}, opset=17)


@draws("MelWeightMatrix")
def mel(d: Draw) -> Drawn:
    constants = {
        "bins": np.asarray(d.integer(2, 12), np.int64), "n": np.asarray(64, np.int64),
        "rate": np.asarray(8000, np.int64),
        "low": np.asarray(0.0, np.float32), "high": np.asarray(4000.0, np.float32),
    }  # fmt: skip
    return Drawn("MelWeightMatrix", {}, {}, constants, opset=17)


@draws("CenterCropPad")
def crop(d: Draw) -> Drawn:
    x = d.floats(d.shape(2, 3, 7))
    axes = d.axes(x.ndim)
    target = np.array([d.integer(1, 9) for _ in axes], np.int64)
    return Drawn("CenterCropPad", {"x": x}, {"axes": axes}, {"shape": target}, opset=18)


@draws("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(d: Draw, op: str) -> Drawn:
    classes = 5
    x = d.floats((3, classes, *d.shape(0, 2)))
    target = d.integers((3, *x.shape[2:]), 0, classes - 1)
    feeds = {"x": x, "t": target} | ({"w": d.positive((classes,))} if d.flag() else {})
    attrs = d.some(reduction=d.pick("none", "sum", "mean"), ignore_index=2)
    return Drawn(op, feeds, attrs, opset=13)


GATES = ("Sigmoid", "HardSigmoid", "Tanh", "Relu", "Softsign", "LeakyRelu", "Elu")
SHAPED = ("HardSigmoid", "LeakyRelu", "Affine", "ScaledTanh", "ThresholdedRelu", "Elu")


@draws("LSTM", "GRU", "RNN")
def recurrent(d: Draw, op: str) -> Drawn:
    steps, batch, width, hidden = d.integer(1, 4), d.integer(1, 3), d.integer(1, 4), d.integer(1, 3)
    direction = d.pick("forward", "reverse", "bidirectional")
    dirs = 2 if direction == "bidirectional" else 1
    gates, states = {"LSTM": (4, 2), "GRU": (3, 1), "RNN": (1, 1)}[op]
    layout = 0
    x = d.floats((steps, batch, width))
    feeds = {"x": x}
    constants = {"W": d.floats((dirs, gates * hidden, width)), "R": d.floats((dirs, gates * hidden, hidden))}
    names = ["x", "W", "R", "", "", "", "", ""]
    if d.flag():
        constants["B"] = d.floats((dirs, 2 * gates * hidden))
        names[3] = "B"
    if d.flag():
        lengths = d.integers((batch,), 1, steps, "int32")
        (feeds if d.flag() else constants)["L"] = lengths
        names[4] = "L"
    if d.flag():
        feeds["H"] = d.floats((dirs, batch, hidden))
        names[5] = "H"
    if op == "LSTM" and d.flag():
        feeds["C"] = d.floats((dirs, batch, hidden))
        names[6] = "C"
    if op == "LSTM" and d.integer(0, 2) == 0:
        constants["P"] = d.floats((dirs, 3 * hidden))
        names[7] = "P"
    while names and not names[-1]:
        names.pop()
    attrs: dict[str, object] = {"hidden_size": hidden, "direction": direction}
    attrs |= d.some(clip=float(d.pick(0.5, 2.0)))
    if layout:
        attrs["layout"] = 1
    if d.flag():
        per = {"LSTM": 3, "GRU": 2, "RNN": 1}[op]
        shaped = d.flag()  # with parameters of their own: without them only some have a default
        chosen = [d.pick(*GATES, *(SHAPED if shaped else ())) for _ in range(per * dirs)]
        attrs["activations"] = chosen
        if shaped:
            two = [n for n in chosen if n in ("HardSigmoid", "Affine", "ScaledTanh")]
            attrs["activation_alpha"] = [round(float(d.positive(())), 2) for n in chosen if n in SHAPED]
            attrs["activation_beta"] = [round(float(d.positive(())), 2) for _ in two]
            attrs = {name: value for name, value in attrs.items() if value != []}
    if op == "GRU":
        attrs |= d.some(linear_before_reset=d.flag())
    if op == "LSTM":
        attrs |= d.some(input_forget=d.flag() if "P" not in constants else 0)
    return Drawn(op, feeds, attrs, constants, inputs=names, outputs=1 + states, opset=14, tolerance=1e-3)
