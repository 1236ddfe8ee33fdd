"""Nodes that run as several kernels.

Attention without a fused kernel (`unfused`, what frameworks ran before FlashAttention): scores, softmax and
weighted sum through memory, every pair computed whether masked or not; the heads are copied together
afterwards. A library also copies queries, keys and values apart first (FasterTransformer's bias-transpose).
A framework that runs op by op (`eager`) reads them strided, scales and masks the scores in kernels of its
own, and composes the tanh form of GELU from eight element-wise kernels (Hugging Face's NewGELUActivation;
NeuSight's op traces list them).
ByteTransformer's long sequences (`grouped`): bias and head split, a grouped product over the true lengths
with the partial softmax in its epilogue, a reduction over key tiles, and a second grouped product (its
cutlass_attention.cu, Apache-2.0). Packed layer by layer, every layer counts and gathers its tokens first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tetrasim.hw_targets.gpu.config import AttentionSchedule, Fusion, GpuConfig, Launch, Packing
from tetrasim.hw_targets.gpu.kernels.attention_grouped import SCORES, VALUES
from tetrasim.sim.ir.graph import Kind
from tetrasim.sim.ops.mask import FULL
from tetrasim.sim.ops.work import AttentionShape, Gemm, Operand, Vector, Work, WorkKind

_COMPOSED_GELU = (
    ("pow", 1),
    ("mul", 1),
    ("add", 2),
    ("mul", 1),
    ("tanh", 1),
    ("add", 1),
    ("mul", 1),
    ("mul", 2),
)  # fmt: skip  op kind, tensors read


_TILE = 128  # keys per block of the grouped product


def kernels_of_work(work: Work, config: GpuConfig) -> Iterator[Work]:
    """The kernels that run `work`: most often itself."""
    eager = config.launch is Launch.EAGER
    if work.attention is not None and packs_per_layer(config):
        yield from _packing(work, work.attention)
    auto_unfused = eager and config.attention is AttentionSchedule.AUTO
    if work.attention is not None and (config.attention is AttentionSchedule.UNFUSED or auto_unfused):
        yield from _attention(work, work.attention, eager)
    elif work.attention is not None and config.attention is AttentionSchedule.GROUPED:
        yield from _grouped(work, work.attention, 1 / config.fill)
    elif work.attention is not None and config.attention is AttentionSchedule.PAGED:
        yield paged(work, work.attention, config.page_tokens)
    elif work.vector is not None and work.vector.kept:
        yield from _sort(work, work.vector)
    elif eager and _is_composed_gelu(work):
        x = work.writes[0]
        for kind, reads in _COMPOSED_GELU:
            yield _elementwise(x, (x,) * reads, kind)
    elif work.attention is not None and (sorted_shape := _by_class(work.attention, work, config)) is not None:
        query, key, value = _qkv(work)
        yield Work("Permute", WorkKind.MOVE, (query, key, value), (query, key, value))
        yield replace(work, attention=sorted_shape)
        yield Work("Permute", WorkKind.MOVE, work.writes, work.writes)
    else:
        if work.attention is not None and config.fusion is Fusion.CHAINS and not eager:
            query, key, value = _qkv(work)  # biases are added before the kernel, as heads are laid out
            yield Work("SplitHeads", WorkKind.MOVE, (query, key, value), (query, key, value))
        yield work


def _attention(work: Work, a: AttentionShape, eager: bool) -> Iterator[Work]:
    """q k^T, scaling, mask, softmax, p v."""
    query, key, value = _qkv(work)
    rest = work.besides(*"qkv")
    scores = a.batch * a.heads * a.q_len * a.kv_len
    middle = Operand(scores, query.bits, query.kind)
    batch = a.batch * a.heads
    first = Gemm(batch, a.q_len, a.kv_len, a.head_dim, weight_is_b=False)
    if not eager:
        yield Work("SplitHeads", WorkKind.MOVE, (query, key, value), (query, key, value))
    yield Work("MatMul", WorkKind.GEMM, (query, key), (middle,), first)
    masked = a.hides and a.q_len > 1
    softmax = [("max", scores), ("add", 2 * scores), ("exp", scores), ("div", scores)]
    if eager:
        yield _elementwise(middle, (middle,), "div")
        if masked or rest:
            yield _elementwise(middle, (middle, *rest), "select" if masked else "add")
        rest = ()
    else:
        softmax.append(("mul", scores))
    rows = Vector(batch * a.q_len, a.kv_len, tuple(softmax), reduces=True)
    yield Work("Softmax", WorkKind.VECTOR, (middle, *rest), (middle,), vector=rows)
    second = Gemm(batch, a.q_len, a.v_head_dim, a.kv_len, weight_is_b=False)
    yield Work("MatMul", WorkKind.GEMM, (middle, value), work.writes, second)
    yield Work("MergeHeads", WorkKind.MOVE, work.writes, work.writes)


def _sort(work: Work, v: Vector) -> Iterator[Work]:
    """Rows that fit a block are sorted in shared memory by a bitonic network (as torch does up to 4,096
    elements). Longer ones: a radix sort, a digit of eight bits per pass, least significant first, and in each
    a histogram, a prefix sum over the blocks, and a kernel that scatters keys and positions (Merrill and
    Grimshaw, 2011; CUB). Few kept of a longer row: one histogram pass per digit finds the smallest key that
    is kept, most significant first, and what is kept is sorted in a block (torch's radix select)."""
    key = work.reads[0]
    n = v.rows * v.cols
    exchanges = (("cmp", v.compare_exchanges), ("select", 2 * v.compare_exchanges))
    if v.cols <= _BLOCK_SORT:
        yield replace(work, vector=replace(v, ops=exchanges, reduces=True))
        return
    digits = -(-key.bits // 8)
    keys, places = Operand(n, key.bits, key.kind), Operand(n, 32, Kind.INT)
    counts = Operand(v.rows * 256 * -(-v.cols // _BLOCK_SORT), 32, Kind.INT)
    histogram = Vector(v.rows, v.cols, (("add", n), ("cmp", n)), reduces=True)
    selects = v.kept <= _BLOCK_SORT
    for digit in range(digits):
        source = key if selects or digit == 0 else keys
        yield Work("Histogram", WorkKind.VECTOR, (source,), (counts,), vector=histogram)
        if not selects:
            sums = Vector(v.rows, counts.elements // v.rows, (("add", 2 * counts.elements),), reduces=True)
            yield Work("PrefixSum", WorkKind.VECTOR, (counts,), (counts,), vector=sums)
            yield Work("Scatter", WorkKind.GATHER, (source, places, counts), (keys, places), run=1)
    if selects:
        kept = replace(v, cols=v.kept, ops=())
        last = (*(("cmp", n),), *((kind, kept.compare_exchanges) for kind in ("cmp", "select")))
        yield replace(work, vector=replace(v, ops=last, reduces=True))


_BLOCK_SORT = 4096  # elements


def _by_class(a: AttentionShape, work: Work, config: GpuConfig) -> AttentionShape | None:
    """A dilated mask touches every tile; with the tokens sorted by their class modulo the dilation it is as
    many short attentions. None where the two permutations take longer than the products that they save."""
    mask = a.visible
    packed, s = mask.packed(), mask.stride
    if packed is None or a.q_len != a.kv_len or s >= a.q_len:
        return None
    rate = config.compute.fp16_flops_per_s or config.compute.fp32_flops_per_s
    saved_s = 2.0 * a.batch * a.heads * a.q_len * a.kv_len * (a.head_dim + a.v_head_dim) * (1 - 1 / s) / rate
    moved = 2 * (sum(o.nbytes for o in _qkv(work)) + work.write_bytes)
    if saved_s * 1e6 < moved / config.dram.bandwidth_bytes_per_s * 1e6:
        return None
    length = -(-a.q_len // s)
    rest = None if packed == FULL else packed
    return replace(a, batch=a.batch * s, q_len=length, kv_len=length, causal=False, window=0, mask=rest)


def _qkv(work: Work) -> tuple[Operand, Operand, Operand]:
    return work.operand("q"), work.operand("k"), work.operand("v")


def packs_per_layer(config: GpuConfig) -> bool:
    """Whether every layer removes the padding anew."""
    return config.fill < 1.0 and config.packing is Packing.LAYER


def packing_once(work: Work, fill: float) -> tuple[tuple[Work, ...], Work]:
    """Before a packed run: count and gather the tokens; after it: spread them over the padded output.
    `work`: its first attention."""
    assert work.attention is not None
    output = work.writes[0]
    padded = replace(output, elements=round(output.elements / fill))
    return tuple(_packing(work, work.attention)), Work("Restore", WorkKind.MOVE, (output,), (padded,))


def _packing(work: Work, a: AttentionShape) -> Iterator[Work]:
    """Count tokens (a prefix sum over the sequences) and gather the layer's input, which is as wide as q."""
    query = work.operand("q")
    counts = Operand(a.batch + 1, 32, Kind.INT)
    rows = Vector(1, a.batch, (("add", a.batch),), reduces=True)
    yield Work("PaddingOffsets", WorkKind.VECTOR, (counts,), (counts,), vector=rows)
    yield Work("Pack", WorkKind.MOVE, (query,), (query,))


def paged(work: Work, a: AttentionShape, page_tokens: int) -> Work:
    """Attention over a paged cache: whole pages are read, the last one of a sequence in part for nothing, and
    one 32-bit page number per page, sequence and key head. The kernel gathers; products stay as they are."""
    query, key, value = _qkv(work)
    rest = work.besides(*"qkv")
    pages = -(-a.kv_len // page_tokens)
    tokens = pages * page_tokens
    keys = replace(
        key, fills=("k",), elements=a.batch * a.kv_heads * tokens * a.head_dim, touched_elements=-1
    )
    values = replace(
        value, fills=("v",), elements=a.batch * a.kv_heads * tokens * a.v_head_dim, touched_elements=-1
    )
    table = Operand(a.batch * a.kv_heads * pages, 32, Kind.INT)
    return replace(work, op="PagedAttention", reads=(query, keys, values, *rest, table))


def _grouped(work: Work, a: AttentionShape, padding: float) -> Iterator[Work]:
    """Two products through memory; the softmax costs a reduction over the key tiles of each row. Heads are
    split into a padded tensor (`padding`: padded over real tokens), the mask is read with the scores."""
    query, key, value = _qkv(work)
    batch = a.batch * a.heads
    scores = Operand(batch * a.q_len * a.kv_len, query.bits, query.kind)
    mask = Operand(a.batch * a.q_len * a.kv_len, query.bits, query.kind)
    tiles = -(-a.kv_len // _TILE)
    partial = Operand(2 * batch * a.q_len * tiles, 32, Kind.FLOAT)
    total = Operand(2 * batch * a.q_len, 32, Kind.FLOAT)
    wide = tuple(replace(o, elements=round(o.elements * padding)) for o in (query, key, value))
    yield Work("SplitHeads", WorkKind.MOVE, (query, key, value), wide)
    first = Gemm(batch, a.q_len, a.kv_len, a.head_dim, weight_is_b=False)
    yield Work(SCORES, WorkKind.GEMM, (query, key, mask), (scores, partial), first, attention=a)
    reduced = (("max", partial.elements), ("add", partial.elements), ("exp", partial.elements))
    rows = Vector(batch * a.q_len, tiles, reduced, reduces=True)
    yield Work("SoftmaxReduction", WorkKind.VECTOR, (partial,), (total,), vector=rows)
    second = Gemm(batch, a.q_len, a.v_head_dim, a.kv_len, weight_is_b=False)
    yield Work(VALUES, WorkKind.GEMM, (scores, value, total), work.writes, second, attention=a)


def _is_composed_gelu(work: Work) -> bool:
    if work.vector is None or work.vector.reduces or len(work.reads) != 1:
        return False
    kinds = {kind for kind, _ in work.vector.ops}
    return {"tanh", "mul", "add"} <= kinds


def _elementwise(result: Operand, reads: tuple[Operand, ...], kind: str) -> Work:
    vector = Vector(1, result.elements, ((kind, result.elements),))
    return Work(kind, WorkKind.VECTOR, reads, (result,), vector=vector)
