"""``python -m hengliu``."""

from hengliu.cli import main

main()
