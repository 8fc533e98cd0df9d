"""The port behind which published logs lie: static files, as C2SP tlog-tiles names them."""

from collections.abc import Mapping
from typing import Protocol

__all__ = ["CHECKPOINT", "TileStore"]

CHECKPOINT = "checkpoint"
"""Path of a log's newest checkpoint below its prefix. The only file that is ever replaced by another content."""


class TileStore(Protocol):
    """Files of several logs. ``log`` is a log's prefix (``weighings-0``), ``path`` what is below it (``tile/0/000.p/12``).

    Blocking: called from threads. Names are the caller's own, never a stranger's.
    """

    def read(self, log: str, path: str) -> bytes | None:
        """The file's content; None where there is none."""
        ...

    def write(self, files: Mapping[tuple[str, str], bytes]) -> None:
        """Store whole files by (log, path). All of them are durable when it returns, and none is ever seen in part.

        A file that is there already gets the same content again: names follow from the content's place in the tree.
        """
        ...

    def publish(self, checkpoints: Mapping[str, bytes]) -> None:
        """Replace the checkpoints of these logs, each at once and in this order; all are durable when it returns."""
        ...

    def drop_partials(self, log: str, path: str) -> None:
        """Remove the partial forms of a full tile or bundle, which nobody needs once a checkpoint covers the full one."""
        ...
