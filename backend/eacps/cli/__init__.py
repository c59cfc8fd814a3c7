"""The `eacps` command line.

Importing this loads no heavy libraries: each command imports what it needs when it runs.
"""

from eacps.cli.app import main

__all__ = ["main"]
