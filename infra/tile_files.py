"""A tile store in a folder: what any web server or copy program can serve, carry away and keep."""

import contextlib
import ctypes
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hengliu.ports.tiles import CHECKPOINT

__all__ = ["TileFiles"]

_libc = ctypes.CDLL(None, use_errno=True)


class TileFiles:
    """A ``TileStore`` over ``folder/LOG/PATH``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._made: set[Path] = set()
        """Folders that are known to be there."""

    def read(self, log: str, path: str) -> bytes | None:
        try:
            return (self._folder / log / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, files: Mapping[tuple[str, str], bytes]) -> None:
        for (log, path), data in files.items():
            self._put(self._folder / log / path, data)
        if files:
            self._sync()

    def _put(self, place: Path, data: bytes) -> None:
        """A whole file under its name, or nothing: readers never see a part."""
        if place.parent not in self._made:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(place.parent)
        beside = place.with_name(f".{place.name}")
        beside.write_bytes(data)
        beside.replace(place)

    def _sync(self) -> None:
        """Everything that was written to this file system, names included: one call in place of two a file."""
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _libc.syncfs(handle) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(self._folder))
        finally:
            os.close(handle)

    def publish(self, checkpoints: Mapping[str, bytes]) -> None:
        self.write({(log, CHECKPOINT): checkpoint for log, checkpoint in checkpoints.items()})

    def drop_partials(self, log: str, path: str) -> None:
        partial = self._folder / log / f"{path}.p"
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(partial)
        self._made.discard(partial)
