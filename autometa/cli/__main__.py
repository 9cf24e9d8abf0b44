"""``python -m autometa.cli``."""

from autometa.cli import main

main()
