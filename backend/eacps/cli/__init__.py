"""The `eacps` command: each file reads the options of some commands and calls what does the work.

Importing this loads no heavy library: a command imports what it needs when it runs.
"""

from eacps.cli.app import main

__all__ = ["main"]
