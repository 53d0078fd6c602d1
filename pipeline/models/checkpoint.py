"""Weights files: safetensors that say themselves what they are.

A weights file holds the tensors of a model and, as JSON strings in the metadata of its header,
the format version, the architecture and its options, how it was trained, and how well it did.
That is all that is needed to build the model again, so nothing else is ever asked for.

Files of other projects are not read here; `pipeline.models.convert` turns them into weights files.
Nothing in a file is executed: safetensors holds tensors and text.

>>> import tempfile
>>> from tracknet.pipeline.models import build
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "tiny.safetensors"
...     save_model(build("v2", {"width": 0.0625}), path, metrics={"f1": 0.5})
...     info = describe(path)
>>> info.arch, info.parameters, info.metrics
('v2', 45024, {'f1': 0.5})
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models import arch_of, build
from tracknet.pipeline.weights import find_weights
from tracknet.schemas.files import whole_file

FORMAT_VERSION = 1

HEADER_LENGTH_BYTES = 8  # safetensors: little-endian length of the JSON header, then the header
KEYS_NAMED = 8  # keys an error message lists before it says "and N more"


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says of itself.

    Attributes:
        arch, config: what `pipeline.models.build` takes.
        hash: SHA-256 of the file, in hex; it stands in every table made with these weights.
        parameters: trainable parameters of the model.
        training: how the weights came to be.
        metrics: how well they did, on what.
    """

    arch: str
    config: dict[str, Any]
    hash: str
    parameters: int
    training: dict[str, Any]
    metrics: dict[str, Any]


def save_model(
    model: nn.Module,
    path: str | Path,
    training: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model to a weights file; the file appears whole or not at all.

    Args:
        training, metrics: records to keep with the weights; anything JSON can hold.
        dtype: store kernels in this type, such as torch.float16, for half the size; None keeps
            theirs.  Biases and normalisation statistics always keep theirs.

    Raises:
        InputError: the model is none of this project's, a record is not JSON, or the folder of
            `path` is not there.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "arch": arch_of(model),
        "config": _to_json("config", asdict(model.config)),  # type: ignore[call-overload]
        "training": _to_json("training", dict(training or {})),
        "metrics": _to_json("metrics", dict(metrics or {})),
    }
    state = {
        key: _stored(tensor, dtype).cpu().contiguous() for key, tensor in model.state_dict().items()
    }
    with whole_file(path) as aside:
        aside.write_bytes(safetensors_torch.save(state, metadata))


def load_model(name_or_path: str | Path, device: str = "cpu") -> nn.Module:
    """The model of a weights file, in eval mode, in float32.

    Args:
        name_or_path: a path, or the name of weights that come with the package.
        device: where to put it, as PyTorch names devices.

    Raises:
        WeightsError: no such weights, not a weights file, or tensors that do not fit its model.
    """
    path = find_weights(name_or_path)
    return load_model_bytes(path.read_bytes(), path.name).to(device)


def load_model_bytes(data: bytes, name: str) -> nn.Module:
    """As `load_model`, for the content of a weights file; `name` stands in error messages."""
    metadata, state = _parse(data, name)
    model = _build(metadata, name, device="cpu")
    check_state(state, model.state_dict(), name)
    model.load_state_dict(state)  # copies into float32, whatever the file stores
    return model.eval()


def describe(name_or_path: str | Path) -> WeightsInfo:
    """What a weights file says of itself.

    Raises:
        WeightsError: no such weights, or not a weights file.
    """
    path = find_weights(name_or_path)
    data = path.read_bytes()
    metadata, _ = _parse(data, path.name)
    model = _build(metadata, path.name, device="meta")
    return WeightsInfo(
        arch=metadata["arch"],
        config=asdict(model.config),  # type: ignore[call-overload]
        hash=hashlib.sha256(data).hexdigest(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        training=_from_json(metadata, "training", path.name),
        metrics=_from_json(metadata, "metrics", path.name),
    )


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Raise one WeightsError that names every key that is missing, surplus, of another shape, or
    has values that are no finite numbers.
    """
    problems = {
        "missing": expected.keys() - state.keys(),
        "surplus": state.keys() - expected.keys(),
        "wrong shape": [
            f"{key} {list(state[key].shape)} instead of {list(expected[key].shape)}"
            for key in state.keys() & expected.keys()
            if state[key].shape != expected[key].shape
        ],
        "NaN or infinity in": [
            key for key, tensor in state.items() if not bool(tensor.isfinite().all())
        ],
    }
    found = "; ".join(f"{what}: {_listed(keys)}" for what, keys in problems.items() if keys)
    if found:
        raise WeightsError(f"{name} does not fit: {found}")


def _listed(keys: Collection[str]) -> str:
    more = f" and {len(keys) - KEYS_NAMED} more" if len(keys) > KEYS_NAMED else ""
    return ", ".join(sorted(keys)[:KEYS_NAMED]) + more


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Kernels in `dtype`; vectors as they are: they weigh nothing, and a variance can overflow."""
    kernel = tensor.is_floating_point() and tensor.ndim > 1
    return tensor.to(dtype) if dtype is not None and kernel else tensor


def _parse(data: bytes, name: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a weights file."""
    try:
        state = safetensors_torch.load(data)
        length = int.from_bytes(data[:HEADER_LENGTH_BYTES], "little")
        header = json.loads(data[HEADER_LENGTH_BYTES : HEADER_LENGTH_BYTES + length])
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{name} is not a safetensors file: {error}") from error
    metadata = header.get("__metadata__", {})
    version = metadata.get("format_version")
    if "arch" not in metadata or version is None:
        raise WeightsError(
            f"{name} does not say which model it is for; use `tracknet weights convert` on the "
            "checkpoint it was made from"
        )
    if version != str(FORMAT_VERSION):
        raise WeightsError(
            f"{name} has format version {version}; this version reads {FORMAT_VERSION}"
        )
    return metadata, state


def _build(metadata: Mapping[str, str], name: str, device: str) -> nn.Module:
    try:
        with torch.device(device):
            return build(metadata["arch"], _from_json(metadata, "config", name))
    except InputError as error:
        raise WeightsError(f"{name}: {error}") from error


def _to_json(what: str, record: Mapping[str, Any]) -> str:
    try:
        return json.dumps(record, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"the {what} record cannot be stored as JSON: {error}") from error


def _from_json(metadata: Mapping[str, str], what: str, name: str) -> dict[str, Any]:
    try:
        record = json.loads(metadata.get(what, "{}"))
    except ValueError as error:
        raise WeightsError(f"{name}: its {what} record is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise WeightsError(f"{name}: its {what} record is not a table of names and values")
    return record
