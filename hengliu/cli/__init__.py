"""The command line: ``hengliu``. Each command is one module under ``hengliu.cli``; heavy imports wait until it runs."""

from hengliu.cli.app import app


def main() -> None:
    """Entry point of the ``hengliu`` script."""
    app(prog_name="hengliu")


__all__ = ["app", "main"]
