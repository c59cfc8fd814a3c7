"""Runs the `eacps` command as `python -m eacps`."""

from eacps.cli import main

if __name__ == "__main__":
    main()
