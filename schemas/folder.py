"""Whose folder is it: the marker, the names of our files, one writer, and starting again.

    OUT/result.json    the marker: what all rows here were made with
    OUT/.lock          who is writing, see `schemas.lock`
    OUT/.working/      what workers are at, see `jobs.notes`
    OUT/.fresh/        what `--fresh` makes, until it is complete; then it is swapped in

Files are told by their names: only what is called as a file of ours is ever replaced, moved or
deleted, and only where the marker is.  Whatever else a person puts into the folder stays.

`swap` may be interrupted anywhere.  It writes the names of the new files to `.fresh/swap.json`, and
from then on the new results count.  Old files that are not among them are deleted, the new ones are
moved over the old ones, then `swap.json` is deleted; `finish_swap` goes on where that ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from tracknet.schemas import parquet
from tracknet.schemas.errors import ForeignFolder, MixedResults
from tracknet.schemas.files import errors_of, files_below, is_remote, move, remove_tree
from tracknet.schemas.lock import FolderLock
from tracknet.schemas.tables import SCHEMA_VERSION

log = logging.getLogger(__name__)

ID = r"[0-9a-f]{32}"
_PROTOCOL = r"(model|source)-[^/]+"
_OURS = re.compile(
    r"(result|courts)\.json"
    rf"|manifests/{ID}\.json"
    rf"|(trajectories|events|rallies|shots|videos|superseded)/{ID}\.parquet"
    rf"|staging/{ID}/\d+-\d+\.parquet"
    rf"|quarantine/({ID}|[0-9a-f]{{16}}|unreadable)\.parquet"
    r"|runs/\d{8}T\d{6}-[0-9a-f]{6}\.parquet"
    rf"|eval_(metrics|errors)/{_PROTOCOL}\.parquet|eval_frames/{_PROTOCOL}/{ID}\.parquet"
    r"|\.working/[^/]+"
    r"|(.+/)?\.[^/]+\.[0-9a-f]{8}\.partial\.(parquet|json)"  # of a run that was killed
)
_FOLDERS = (
    *("manifests", "trajectories", "videos", "superseded", "staging", "quarantine", "runs"),
    *("events", "rallies", "shots", "eval_metrics", "eval_errors", "eval_frames", ".working"),
)
_SWAP = "swap.json"
_MARKER = ("schema_version", "weights_hash", "settings")


@dataclass(frozen=True)
class ResultKey:
    """Everything that decides what the rows look like.

    Attributes:
        weights_hash: SHA-256 of the weights file.
        settings: the settings that change results, JSON values.
    """

    weights_hash: str
    settings: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "weights_hash": self.weights_hash,
            "settings": dict(self.settings),
        }

    def matches(self, marker: Mapping[str, Any]) -> bool:
        """Whether a folder's marker says the same."""
        return {name: marker.get(name) for name in _MARKER} == self.document()

    @property
    def digest(self) -> str:
        """16 hex digits that differ whenever anything here differs."""
        canonical = json.dumps(self.document(), sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()[:16]


class Folder:
    """A folder for results.

    Args:
        root: where it is.
        lock: of the folder that it is a part of; None for its own.
    """

    def __init__(self, root: Path, lock: FolderLock | None = None) -> None:
        self.root = root
        self._lock = lock or FolderLock(root / ".lock")

    def lock(self, take: bool = False) -> AbstractContextManager[None]:
        """Hold the folder against other writers; see `schemas.lock` for the rules.

        Raises:
            Locked: another run holds it.
            NotWritable: the folder cannot be made or written.
        """
        return self._lock.hold(take)

    def holder(self) -> dict[str, Any]:
        """Host, process and start of who writes here now; empty where nobody does."""
        return self._lock.holder()

    @property
    def marker(self) -> dict[str, Any] | None:
        """What the rows here were made with; None where this is no results folder."""
        found = read_json(self.root / "result.json")
        return found if found is not None and found.keys() >= set(_MARKER) else None

    def claim(self, key: ResultKey) -> None:
        """Dedicate the folder to one result.

        A marker that is gone or damaged is made again where all manifests agree with `key`.

        Raises:
            MixedResults: it is dedicated to another; the message names what differs.
            ForeignFolder: it holds somebody else's `result.json`.
        """
        found, wanted = self.marker, key.document()
        if found is None:
            self.check_ours(key)
            parquet.write_json({"format": "tracknet results", **wanted}, self.root / "result.json")
        elif not key.matches(found):
            differences = _differences({name: found[name] for name in _MARKER}, wanted)
            raise MixedResults(
                f"{self.root} holds results of other weights or settings ({differences}); "
                "choose another --out, or --fresh to replace them"
            )

    def check_ours(self, key: ResultKey | None = None) -> None:
        """Make sure that nothing here would be replaced that may not be ours.

        Args:
            key: what all manifests must be made with where the marker is gone; None for anything.

        Raises:
            ForeignFolder: there is no marker, but files that results would replace.
        """
        if self.marker is not None:
            return
        found = [read_json(path) for path in named(self.root / "manifests", rf"{ID}\.json")]
        keys = {manifest.get("result_key") for manifest in found if manifest}
        if keys and (key is None or keys == {key.digest}):
            log.warning("%s: result.json is damaged or missing; using the manifests", self.root)
            return
        if foreign := next(self._files(), None):
            raise ForeignFolder(
                f"{self.root} has no marker of ours (result.json), but holds {foreign}; choose "
                "another --out, or move that away"
            )

    def _files(self) -> Iterator[str]:
        """Our own files, relative to the folder; told by their names."""
        paths = named(self.root, r"(result|courts)\.json|\..+\.partial\.json")
        for name in _FOLDERS:
            paths += files_below(self.root / name)
        for path in paths:
            name = path.relative_to(self.root).as_posix()
            if _OURS.fullmatch(name):
                yield name

    def sweep(self) -> None:
        """Delete what killed runs were just writing; an object store shows no unfinished file."""
        for name in () if is_remote(self.root) else self._files():
            if ".partial." in name or name.startswith(".working/"):
                (self.root / name).unlink(missing_ok=True)

    # ---- starting again ---------------------------------------------------------------------

    def next(self) -> Self:
        """The folder beside, for results that will replace those here."""
        return type(self)(self.root / ".fresh", self._lock)

    def drop_next(self) -> None:
        """Delete what an unfinished `--fresh` has made."""
        if (self.root / ".fresh").exists():
            log.warning("%s: discarding an unfinished --fresh run", self.root)
            remove_tree(self.root / ".fresh")

    def swap(self) -> None:
        """Replace the results here by those of `next`.

        May be interrupted anywhere: `swap.json` decides, `finish_swap` does what is left.
        """
        self.check_ours()
        parquet.write_json({"files": list(self.next()._files())}, self.root / ".fresh" / _SWAP)
        self.finish_swap()

    def finish_swap(self) -> None:
        """Go on with an interrupted `swap`, if there is one."""
        ready = self.next()
        complete = read_json(ready.root / _SWAP)
        if complete is None:
            return
        with parquet.writing(self.root):
            for name in set(self._files()) - set(complete["files"]):
                (self.root / name).unlink()  # what has the same name is replaced, without a gap
            for name in ready._files():
                move(ready.root / name, self.root / name)
            # First, and for certain: were it left, the next run would swap again, and delete what
            # was published since.
            (ready.root / _SWAP).unlink()
            remove_tree(ready.root)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where the file is not there or holds none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (errors_of(path), ValueError) as error:
        log.warning("damaged; treated as missing: %s (%s)", path, error)
        return None
    return found if isinstance(found, dict) else None


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between two documents, for a person: `peak: contour -> centroid`."""
    parts = []
    for name in sorted(found.keys() | wanted.keys()):
        old, new = found.get(name), wanted.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if inner := _differences(old, new):
                parts.append(inner)
        elif old != new:
            parts.append(f"{name}: {str(old)[:16]} -> {str(new)[:16]}")
    return ", ".join(parts)


def named(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder whose whole name matches, sorted; none where there is no folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(path for path in folder.iterdir() if re.fullmatch(pattern, path.name))
    return []
