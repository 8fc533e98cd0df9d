"""The command line: ``hengliu``.

Owns what a person types and reads in a terminal: commands, their help in both languages, exit codes, and the supervision of the
demonstration's processes. Does not own what the commands do: they call ``hengliu.compose``, ``connectors`` and ``simulator``,
and hold no rule of the domain. ``app`` is the list of all commands; heavy imports wait until one runs.
"""

from hengliu.cli.app import app


def main() -> None:
    """Entry point of the ``hengliu`` script."""
    app(prog_name="hengliu")


__all__ = ["app", "main"]
