"""`Work` of one op from its dims alone, for `tetrasim op` and for tables of ops.

Each builder makes the node that an importer would have made and asks the registry, so that a single op and
the same op in a model are priced alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tetrasim.errors import UserError, nearest
from tetrasim.sim.ir.graph import Attr, Node, Role, TensorType, Value
from tetrasim.sim.ops.registry import infer, work_of
from tetrasim.sim.ops.work import Work
from tetrasim.sim.precision import Format


@dataclass(frozen=True)
class _Named:
    """How an everyday name maps to a node: op, attributes, activation inputs, parameter vectors."""

    op: str
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    inputs: int = 1
    params: int = 0


_NAMED = {
    "gelu": _Named("Gelu"),
    "gelu_tanh": _Named("Gelu", {"approximate": "tanh"}),
    "silu": _Named("Swish"),
    "softmax": _Named("Softmax", {"axis": -1}),
    "layernorm": _Named("LayerNormalization", {"axis": -1}, params=2),
    "rmsnorm": _Named("RMSNormalization", {"axis": -1}, params=1),
    "reduce_sum": _Named("ReduceSum", {"axes": (-1,)}),
    "reduce_mean": _Named("ReduceMean", {"axes": (-1,)}),
    "reduce_max": _Named("ReduceMax", {"axes": (-1,)}),
    "rotary": _Named("RotaryEmbedding", inputs=3),
}
_BINARY = ("add", "sub", "mul", "div", "pow", "max", "min")
_UNARY = ("relu", "sigmoid", "tanh", "exp", "log", "sqrt", "erf", "neg", "abs", "sin", "cos", "reciprocal")


def vector_op_names() -> tuple[str, ...]:
    """Names that `vector_work` accepts, sorted."""
    return tuple(sorted({*_NAMED, *_BINARY, *_UNARY}))


def matmul_work(m: int, n: int, k: int, fmt: Format, batch: int = 1) -> Work:
    """C[m,n] = A[m,k] B[k,n] with a constant B; `batch` independent ones.

    Raises:
        UserError: a dim below 1.
    """
    _positive(m=m, n=n, k=k, batch=batch)
    lead = (batch,) if batch > 1 else ()
    a = _value("a", (*lead, m, k), fmt)
    b = _value("b", (*lead, k, n), fmt, Role.WEIGHT)
    return _work("MatMul", (a, b), {}, fmt)


def attention_work(
    batch: int, q_len: int, heads: int, kv_heads: int, head_dim: int, kv_len: int, causal: bool, fmt: Format
) -> Work:
    """Scaled dot-product attention; `kv_len` counts every key, K and V come from the cache.

    Raises:
        UserError: a dim below 1, heads not a multiple of kv_heads, or fewer keys than causal queries.
    """
    _positive(batch=batch, q_len=q_len, heads=heads, kv_heads=kv_heads, head_dim=head_dim, kv_len=kv_len)
    if heads % kv_heads:
        raise UserError(f"heads = {heads} is not a multiple of kv_heads = {kv_heads}")
    if causal and kv_len < q_len:
        raise UserError(
            f"causal attention with kv_len = {kv_len} < q_len = {q_len}",
            hint="kv_len counts the new keys too",
        )
    q = _value("q", (batch, heads, q_len, head_dim), fmt)
    k, v = (_value(name, (batch, kv_heads, kv_len, head_dim), fmt, Role.STATE) for name in "kv")
    return _work("Attention", (q, k, v), {"causal": int(causal)}, fmt)


def vector_work(op: str, rows: int, cols: int, fmt: Format) -> Work:
    """An element-wise op, softmax or normalisation over rows x cols (op counts per element: the tables in
    `elementwise.py`, `activation.py`, `normalisation.py`).

    Raises:
        UserError: unknown op, or a dim below 1.
    """
    _positive(rows=rows, cols=cols)
    name = op.lower().replace("-", "_")
    if name in _NAMED:
        spec = _NAMED[name]
    elif name in _BINARY or name in _UNARY:
        spec = _Named(name.capitalize(), inputs=2 if name in _BINARY else 1)
    else:
        raise UserError(f"unknown op '{op}'", hint=nearest(name, (*vector_op_names(), "matmul", "attention")))
    values = [_value(f"x{i}", (rows, cols), fmt) for i in range(spec.inputs)]
    values += [_value(f"p{i}", (cols,), fmt, Role.WEIGHT) for i in range(spec.params)]
    return _work(spec.op, tuple(values), spec.attrs, fmt)


def _value(name: str, shape: tuple[int, ...], fmt: Format, role: Role = Role.ACTIVATION) -> Value:
    return Value(name, TensorType(shape, fmt.kind, fmt.bits), role)


def _work(op: str, inputs: tuple[Value, ...], attrs: Mapping[str, Attr], fmt: Format) -> Work:
    (out, *_) = infer(op, [v.type for v in inputs], attrs)
    return work_of(Node(op, op, inputs, (_value("y", out.shape, fmt),), attrs))


def _positive(**dims: int) -> None:
    for name, size in dims.items():
        if size < 1:
            raise UserError(f"{name} = {size}", hint="every dim is at least 1")
