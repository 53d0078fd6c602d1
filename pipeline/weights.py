"""Where weights files are, asked without PyTorch, which takes seconds to load."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tracknet.pipeline.errors import WeightsError

SUFFIX = ".safetensors"
FOREIGN_SUFFIXES = (".pt", ".pth", ".ckpt", ".tar", ".bin", ".pkl")
SHIPPED = Path(__file__).parent / "models" / "weights"


def shipped_names() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


def find_weights(name_or_path: str | Path) -> Path:
    """The file of a path or of a shipped name.

    Raises:
        WeightsError: there is none, or it is a PyTorch checkpoint.
    """
    path = Path(name_or_path)
    shipped = SHIPPED / f"{name_or_path}{SUFFIX}"
    if path.suffix in FOREIGN_SUFFIXES:
        raise WeightsError(
            f"{path} is a PyTorch checkpoint; make it a weights file first: "
            f"tracknet weights convert {path} --arch NAME --out {path.with_suffix(SUFFIX).name}"
        )
    if path.is_file():
        return path
    if path.name == str(name_or_path) and shipped.is_file():
        return shipped
    names = ", ".join(shipped_names()) or "none in this installation"
    raise WeightsError(f"no weights {str(name_or_path)!r}: neither a file nor one of: {names}")


def weights_hash(name_or_path: str | Path) -> str:
    """SHA-256 of a weights file, in hex."""
    return hashlib.sha256(find_weights(name_or_path).read_bytes()).hexdigest()
