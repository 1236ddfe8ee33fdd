"""What exporters write: TorchScript and dynamo files of stock PyTorch modules become exact plans."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import warnings
from pathlib import Path

import pytest

from tetrasim.facade import load_forward
from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate
from tetrasim.hw_targets.fpga.hls.check import Numerics, compare
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.project import generate, reference_outputs, sample_inputs
from tetrasim.hw_targets.fpga.hls.relu import clip_relus
from tetrasim.hw_targets.fpga.hls.stream import streamed

torch = pytest.importorskip("torch")
nn = torch.nn


class Encoder(nn.Module):  # type: ignore[misc, name-defined]
    """nn.TransformerEncoder with a class token; `causal` and `norm_first` as the module has them."""

    def __init__(self, *, causal: bool = False, norm_first: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Parameter(torch.randn(1, 11, 16) / 4)
        layer = nn.TransformerEncoderLayer(
            16, 4, 24, activation="gelu" if norm_first else "relu", batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)
        self.causal = causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x)], 1) + self.position
        mask = nn.Transformer.generate_square_subsequent_mask(11) if self.causal else None
        return self.head(self.encoder(x, mask=mask)[:, -1 if self.causal else 0])


class Attended(nn.Module):  # type: ignore[misc, name-defined]
    """nn.MultiheadAttention that also computes its weights, batch second; batch norm; learned queries."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12)
        self.norm.running_var.uniform_(0.5, 2)
        self.attention = nn.MultiheadAttention(12, 3)
        self.pool = nn.MultiheadAttention(12, 2, batch_first=True)
        self.queries = nn.Parameter(torch.randn(1, 2, 12))
        self.head = nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        y = x.transpose(0, 1)
        x = x + self.attention(y, y, y, need_weights=True)[0].transpose(0, 1)
        x = nn.functional.silu(x) * torch.sigmoid(x)
        found, _ = self.pool(self.queries.expand(x.shape[0], -1, -1), x, x, need_weights=False)
        return self.head(found.flatten(1))


class Bert(nn.Module):  # type: ignore[misc, name-defined]
    """Token ids and a padding mask, attention written out, as BERT's own code does."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(40, 16), nn.Embedding(12, 16)
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.norm = nn.LayerNorm(16, eps=1e-12)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.words(ids) + self.places(torch.arange(12)[None]))
        split = [f(x).view(1, 12, 2, 8).permute(0, 2, 1, 3) for f in (self.q, self.k, self.v)]
        scores = split[0] @ split[1].transpose(-1, -2) / math.sqrt(8)
        scores = scores + (1.0 - mask[:, None, None, :].float()) * -10000.0
        y = (torch.softmax(scores, -1) @ split[2]).permute(0, 2, 1, 3).reshape(1, 12, 16)
        return self.head(torch.tanh(self.norm(x + self.o(y))[:, 0]))


class Einsums(nn.Module):  # type: ignore[misc, name-defined]
    """Keras' MultiHeadAttention: projections and products by einsum, weights with an axis per head."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.randn(8, 2, 5) / 3) for _ in range(3))
        self.o = nn.Parameter(torch.randn(2, 5, 8) / 3)
        self.head = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("abc,cde->abde", x, w) for w in (self.q, self.k, self.v))
        p = torch.softmax(torch.einsum("aecd,abcd->acbe", k, q / math.sqrt(5)), -1)
        y = torch.einsum("acbe,aecd->abcd", p, v)
        x = x + torch.einsum("abcd,cde->abe", y, self.o)
        return torch.log_softmax(self.head(x.mean(1)), -1)


class Convolutions(nn.Module):  # type: ignore[misc, name-defined]
    """Depthwise and grouped convolutions, padded pooling, activations that are straight lines."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU6()),
            *(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Hardswish(), nn.Conv2d(6, 8, 1, groups=2)),
            *(
                nn.GroupNorm(2, 8),
                nn.MaxPool2d(3, 2, 1),
                nn.LeakyReLU(),
                nn.AvgPool2d(3, 2, 1, count_include_pad=False),
            ),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


IDS = (torch.zeros(1, 12, dtype=torch.long), torch.ones(1, 12, dtype=torch.long))
CASES = {
    "encoder": (Encoder, {}, (torch.zeros(1, 10, 6),)),
    "encoder-causal-pre-norm": (Encoder, {"causal": True, "norm_first": True}, (torch.zeros(1, 10, 6),)),
    "attention": (Attended, {}, (torch.zeros(1, 10, 12),)),
    "bert": (Bert, {}, IDS),
    "einsums": (Einsums, {}, (torch.zeros(1, 9, 8),)),
    "convolutions": (Convolutions, {}, (torch.zeros(1, 1, 12, 12),)),
}


def exported(name: str, folder: Path, *, dynamo: bool) -> Path:
    """The case as an ONNX file."""
    kind, arguments, inputs = CASES[name]
    torch.manual_seed(0)
    model = kind(**arguments).eval()
    file = folder / f"{name}.onnx"
    kept = {"external_data": False} if dynamo else {}
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        torch.onnx.export(model, inputs, str(file), dynamo=dynamo, opset_version=18 if dynamo else 17, **kept)
    return file


def numerics_of(file: Path) -> Numerics:
    """16 bits, streamed, against onnxruntime."""
    graph, path = load_forward(str(file))
    plan = streamed(clip_relus(convert(graph)))
    feeds = sample_inputs(graph, plan, HlsOptions(samples=200))
    reference, source = reference_outputs(graph, feeds, path)
    by_layer = {x.name: feeds[v.name] for x, v in zip(plan.inputs, graph.inputs, strict=True)}
    return compare(calibrate(plan, by_layer, Widths(16)), by_layer, reference, source, None)


@pytest.mark.parametrize("name", CASES)
def test_torchscript_files_convert_exactly(tmp_path: Path, name: str) -> None:
    _close(numerics_of(exported(name, tmp_path, dynamo=False)))


@pytest.mark.parametrize("name", ["encoder", "attention"])
def test_dynamo_files_convert_exactly(tmp_path: Path, name: str) -> None:
    _close(numerics_of(exported(name, tmp_path, dynamo=True)))


def _close(numerics: Numerics) -> None:
    assert numerics.reference == "onnxruntime"
    assert numerics.conversion_error < 1e-5
    assert numerics.relative < 0.02
    assert numerics.argmax >= 0.98  # untrained: 200 inputs, some with two scores that hardly differ


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_masks_and_ids_are_bit_exact(tmp_path: Path) -> None:
    graph, file = load_forward(str(exported("bert", tmp_path, dynamo=False)))
    options = HlsOptions(samples=60, calibration=60, io="parallel")
    assert generate(graph, tmp_path / "p", options, onnx_path=file).numerics.bit_exact is True


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_causal_attention_after_packed_projections_is_bit_exact(tmp_path: Path) -> None:
    graph, file = load_forward(str(exported("encoder-causal-pre-norm", tmp_path, dynamo=False)))
    options = HlsOptions(samples=40, calibration=40, backend="Vivado")
    report = generate(graph, tmp_path / "p", options, onnx_path=file)
    assert report.numerics.bit_exact is True
    assert report.pipeline is not None
    assert report.pipeline.interval_cycles <= 12  # rows pass heads and slices on the fly
