"""INT8: a network for CPUs, quantized after training on real windows.

Post-training quantization (NNCF) runs the float network on some hundred windows, notes the range
of every activation, and puts 8-bit numbers where convolutions take them.  What stays in float,
because a small error there moves the answer, is listed in `_KEPT_IN_FLOAT`.  Weights use 7 of their
8 bits: on CPUs without VNNI sums of products overflow otherwise, and rows would depend on the CPU.

Still every logit lies a little off.  How far is measured on the same windows, and where that could
change a result the window is recomputed in float32 (`pipeline.runtimes.recompute`).

A quantized network is an OpenVINO IR: two files, `NAME.int8.xml` and `NAME.int8.bin`.  The hash of
the weights it was made from, how it was calibrated and how far it lies off stand inside, so it
cannot be paired with other weights.  It is found beside its weights file or, by their hash, in the
user's cache.

    quantized = quantize(model, windows, weights_hash("v5.safetensors"), {"seed": 0})
    save_quantized(quantized, cache_path(weights_hash("v5.safetensors")))

`pipeline.runtimes.parity` tells what was lost; this module does not know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.runtimes.choice import openvino_available
from tracknet.pipeline.runtimes.openvino_runtime import OpenVinoRuntime, to_openvino
from tracknet.pipeline.weights import weights_hash
from tracknet.schemas.files import whole_file

if TYPE_CHECKING:
    import openvino
    from torch import nn

SUFFIX = ".int8.xml"
# What stays in float, by names in the network, which are those of the modules: what sees
# differences of grey values, where 1/255 counts, that is motion and the first convolution; what
# turns features into logits and gates them; and attention but for its linear layers.  Together a
# few per cent of the MACs.  With the first convolution quantized 14 of 575 validation frames have
# another outcome than in float (v5-nano), without it 6, and 6 also with all that is computed at
# full resolution in float.
_LINEAR = r"head\.layers\.\d+\.(attention\.qkv|attention\.out|expand|contract)/"
_REFINE = rf"\.refine(\.(?!{_LINEAR})|/)"
_FIRST = r"\.unet\.encoder1\.0\.conv/"
_KEPT_IN_FLOAT = (r"\.mdd[./]", r"\.motion[./]", r"\.draft/", r"\.head[./]", _REFINE, _FIRST, "/")
_KEPT_OUTSIDE = "(aten|prim)::.*"  # what is done in no module: in the methods that make a draft
_NEAR, _SURE, _TINY = 0.2, 0.75, 1e-7  # see `_margin`; the least probability, so logits are finite
_SECTION = "tracknet"  # of the network's run-time information
_VERSION = "2"  # of what stands there


@dataclass(frozen=True)
class Quantized:
    """The two files of a quantized network, as they travel between processes.

    Attributes:
        xml, bin: content of the files.
        weights_hash: SHA-256 of the weights file it was made from.
        calibration: how it was calibrated.
        margin: how far a logit may lie off float's; see `_margin`.
    """

    xml: bytes
    bin: bytes
    weights_hash: str
    calibration: dict[str, Any]
    margin: float

    @property
    def hash(self) -> str:
        """SHA-256 over both files, in hex; another calibration is another network."""
        return hashlib.sha256(self.xml + self.bin).hexdigest()

    def network(self) -> openvino.Model:
        """The network; it takes what `to_openvino`'s does, and gives the same first."""
        import openvino

        return openvino.Core().read_model(self.xml, self.bin)


def quantize(
    model: nn.Module,
    windows: Iterable[np.ndarray],
    made_from: str,
    calibration: Mapping[str, Any],
    margin: float | None = None,
) -> Quantized:
    """Quantize a heatmap model for windows like these.

    Args:
        model: in eval mode.
        windows: uint8 `[P, H, W, 3]`, each one window.
        made_from: hash of the weights file that the model comes from.
        calibration: a JSON-able record of where the windows come from; their number is added.
        margin: see `Quantized`; None measures it.

    Returns:
        A network with a batch of 1.

    Raises:
        InputError: NNCF is not installed, there is no window, or the model makes no heatmaps.
    """
    nncf = _import_nncf()
    batches = [np.ascontiguousarray(window)[None] for window in windows]
    if not batches:
        raise InputError("quantization needs at least one window to calibrate with")
    patterns = [*(rf"__module\.model{part}.*" for part in _KEPT_IN_FLOAT), _KEPT_OUTSIDE]
    overflow = nncf.quantization.advanced_parameters.OverflowFix.ENABLE
    # BatchNorm behind the ReLU leaves rare, large values (up to 148 in v5-nano), so one step of 8
    # bits is coarse.  Ranges other than NNCF's own were tried, with the first convolution
    # quantized, too, and 100 windows: of 575 validation frames 14 have another outcome than in
    # float as it is, 23 with the highest values clipped (quantiles, 1e-5), 19 with ranges up to the
    # largest value of all, 12 with the ranges of channels equalized, 11 with both.  NNCF's
    # SmoothQuant of convolutions changes nothing.
    # NNCF shows its progress on standard output, where results belong.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        float_network = to_openvino(model)
        network = nncf.quantize(
            float_network.clone(),
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(patterns=patterns, validate=False),
            subset_size=len(batches),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=overflow),
        )
    if margin is None:
        from tracknet.pipeline.models.blocks import window_spec

        spec = window_spec(model)
        margin = _margin(
            *(_highest_logits(OpenVinoRuntime(n, spec), batches) for n in (float_network, network))
        )
    record = {**calibration, "windows": len(batches)}
    network.set_rt_info(_VERSION, [_SECTION, "version"])
    network.set_rt_info(made_from, [_SECTION, "weights_hash"])
    network.set_rt_info(json.dumps(record, sort_keys=True), [_SECTION, "calibration"])
    network.set_rt_info(repr(margin), [_SECTION, "margin"])
    return _to_files(network)


def _highest_logits(runtime: OpenVinoRuntime, batches: Sequence[np.ndarray]) -> NDArray[np.float64]:
    """The highest logit of every heatmap of all windows, `[heatmaps]`."""
    heatmaps = (runtime(batch)[0] for batch in batches)
    highest = np.concatenate([h.max(axis=(1, 2)) for h in heatmaps]).astype(np.float64)
    highest = highest.clip(_TINY, 1 - _TINY)
    return np.log(highest / (1 - highest))


def _margin(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """How far apart two networks' highest logits are where it counts.

    Taken is the fifth of the heatmaps that float leaves closest to p = 0.5, because elsewhere
    logits are larger, and so are errors, which turn nothing there; and of those the distance that
    75 % keep.  For `v5-nano` 95 % recomputed 10.7 % of the windows of the validation clips instead
    of 5.8 %, which cost 5 % of the speed, for 99.90 % instead of 99.79 % of the same outcomes.

    >>> _margin(np.array([0.1, 4.0, -6.0, 5.0, 7.0]), np.array([0.15, 4.8, -6.5, 5.5, 7.5]))
    0.05
    """
    near = np.argsort(np.abs(expected))[: math.ceil(_NEAR * len(expected))]
    distance = np.quantile(np.abs(found - expected)[near], _SURE)
    return float(f"{distance:.3g}")


def _to_files(network: openvino.Model) -> Quantized:
    import openvino

    with tempfile.TemporaryDirectory(prefix="tracknet-int8-") as folder:
        path = Path(folder) / f"network{SUFFIX}"
        openvino.save_model(network, path, compress_to_fp16=False)
        return read_quantized(path, _rt_info(network, "weights_hash"))


def _import_nncf() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nncf
    except ImportError as error:
        raise InputError("quantizing needs NNCF: pip install 'tracknet[quantize]'") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def save_quantized(quantized: Quantized, path: Path) -> None:
    """Write a quantized network to `path` (`.xml`) and its constants beside it (`.bin`).

    Each file appears whole or not at all, the `.xml` last.
    """
    for suffix, content in ((".bin", quantized.bin), (".xml", quantized.xml)):
        with whole_file(path.with_suffix(suffix)) as aside:
            aside.write_bytes(content)


def read_quantized(path: Path, expected: str) -> Quantized:
    """Read a quantized network that was made from the weights with the hash `expected`.

    Raises:
        WeightsError: no such network, it was made from other weights, or by an older version.
    """
    import openvino

    try:
        xml, constants = path.read_bytes(), path.with_suffix(".bin").read_bytes()
        network = openvino.Core().read_model(xml, constants)
    except (OSError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise WeightsError(f"{path} is no quantized network: {first_line}") from error
    made_from = _rt_info(network, "weights_hash")
    if made_from != expected:
        origin = f"from the weights {made_from[:16]}" if made_from else "by another program"
        raise WeightsError(f"{path} was made {origin}, not from {expected[:16]}")
    if _rt_info(network, "version") != _VERSION:
        raise WeightsError(
            f"{path} was made by another version of this program; create it again with "
            "`tracknet weights quantize`"
        )
    calibration = json.loads(_rt_info(network, "calibration"))
    margin = float(_rt_info(network, "margin"))
    return Quantized(xml, constants, made_from, calibration, margin)


def _rt_info(network: openvino.Model, name: str) -> str:
    keys = [_SECTION, name]
    return str(network.get_rt_info(keys).astype(str)) if network.has_rt_info(keys) else ""


def find_quantized(weights: Path) -> Quantized:
    """The quantized network of a weights file: beside it, or in the user's cache.

    Raises:
        WeightsError: there is none; the message says which command makes it.
    """
    for path in _places(weights):
        if path.exists():
            return read_quantized(path, weights_hash(weights))
    raise WeightsError(
        f"{weights.name} has no quantized network yet; make it with labelled clips: "
        f"tracknet weights quantize {weights} --data FOLDER"
    )


def has_quantized(weights: Path) -> bool:
    """Whether there is OpenVINO, and a quantized network of a weights file, readable or not."""
    return openvino_available() and any(path.exists() for path in _places(weights))


def _places(weights: Path) -> tuple[Path, Path]:
    return beside(weights), cache_path(weights_hash(weights))


def beside(weights: Path) -> Path:
    """Where the quantized network of a weights file may lie beside it."""
    return weights.with_name(weights.stem + SUFFIX)


def cache_path(made_from: str) -> Path:
    """Where the quantized network of the weights with this hash is kept by default."""
    return user_cache_path("tracknet") / "quantized" / f"{made_from}{SUFFIX}"
