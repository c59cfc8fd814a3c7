"""`python -m eacps` is the `eacps` command."""

from eacps.cli import main

if __name__ == "__main__":
    main()
