"""What a run needs of a weights file, prepared once, so that PyTorch need not be loaded again.

    prepared = prepare("v5.safetensors")
    prepared.spec, prepared.arch
    network = prepared.network(batch=1)       # the float network as OpenVINO's

The first time the model is built and checked, and converted to OpenVINO where that is asked for.
The results are kept in the user's cache under the hash of the weights and of all that they depend
on: this project's models, and the versions of PyTorch and OpenVINO.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.weights import find_weights
from tracknet.schemas.files import whole_file

if TYPE_CHECKING:
    import openvino
    from torch import nn

_DEPENDS_ON = ("torch", "openvino")
_CODE = ("models/*.py", "spec.py", "runtimes/prepared.py", "runtimes/openvino_runtime.py")


@dataclass(frozen=True)
class Prepared:
    """A heatmap model as a run needs it.

    Attributes:
        weights: content of the weights file.
        name: what to call it in errors.
        arch: of the model.
        spec: what it takes and gives.
    """

    weights: bytes
    name: str
    arch: str
    spec: WindowSpec

    @property
    def hash(self) -> str:
        """SHA-256 of the weights file, in hex; it stands in every table made with these weights."""
        return sha256(self.weights).hexdigest()

    def model(self) -> nn.Module:
        """The model in PyTorch, in eval mode, float32."""
        from tracknet.pipeline.models.checkpoint import load_model_bytes

        return load_model_bytes(self.weights, self.name)

    def network(self, batch: int = 1) -> openvino.Model:
        """The float network, see `pipeline.runtimes.openvino_runtime.to_openvino`."""
        import openvino

        path = _place(self.weights, f".{batch}.xml")
        try:
            text, constants = path.read_bytes(), path.with_suffix(".bin").read_bytes()
        except OSError:
            text, constants = self._convert(batch)
            with suppress(OSError):  # no room, no permission: it is made again next time
                for suffix, content in ((".bin", constants), (".xml", text)):
                    with whole_file(path.with_suffix(suffix)) as aside:
                        aside.write_bytes(content)
        return openvino.Core().read_model(text, constants)

    def _convert(self, batch: int) -> tuple[bytes, bytes]:
        import openvino

        from tracknet.pipeline.runtimes.openvino_runtime import to_openvino

        with tempfile.TemporaryDirectory(prefix="tracknet-") as folder:
            path = Path(folder) / "network.xml"
            openvino.save_model(to_openvino(self.model(), batch), path, compress_to_fp16=False)
            return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def prepare(name_or_path: str | Path) -> Prepared:
    """What is prepared of weights, made where it is not yet.

    Args:
        name_or_path: a path, or the name of weights that come with the package.

    Raises:
        WeightsError: no such weights, not a weights file, or its tensors do not fit.
        InputError: the model makes no heatmaps.
    """
    file = find_weights(name_or_path)
    weights, name = file.read_bytes(), file.name
    path = _place(weights, ".json")
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        spec = found["spec"] | {"targets": tuple(found["spec"]["targets"])}
        return Prepared(weights, name, found["arch"], WindowSpec(**spec))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged: it is made again
    from tracknet.pipeline.models import arch_of
    from tracknet.pipeline.models.blocks import window_spec
    from tracknet.pipeline.models.checkpoint import load_model_bytes

    model = load_model_bytes(weights, name)
    made = Prepared(weights, name, arch_of(model), window_spec(model))
    with suppress(OSError), whole_file(path) as aside:
        aside.write_text(json.dumps({"arch": made.arch, "spec": asdict(made.spec)}), "utf-8")
    return made


def _place(weights: bytes, suffix: str) -> Path:
    digest = sha256(weights)
    for package in _DEPENDS_ON:
        try:
            digest.update(version(package).encode())
        except ImportError:
            digest.update(b"-")
    below = Path(__file__).parent.parent
    for pattern in _CODE:
        for path in sorted(below.glob(pattern)):
            digest.update(path.read_bytes())
    return user_cache_path("tracknet") / "prepared" / f"{digest.hexdigest()[:32]}{suffix}"
