"""`eacps doctor`."""

from __future__ import annotations

from collections import Counter

from eacps.cli.loading import load_quietly
from eacps.cli.printing import out, print_finding


def doctor() -> None:
    """Check machine, weights, database, store and Label Studio, and say what to do.

    Exit code 1: something must be fixed first.
    """
    from eacps.doctor import examine

    settings = load_quietly()
    counts: Counter[str] = Counter()
    for finding in examine(settings):
        counts[finding.state] += 1
        print_finding(finding.state, f"{finding.subject}: {finding.message}")
    out.print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} to fix.")
    raise SystemExit(1 if counts["fail"] else 0)
