"""`python -m tests.chaos.faults`: the long run of `make chaos MINUTES=60`."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from tests.chaos.faults.run import Plan, run, written
from tests.chaos.postgres import has_postgres


def main() -> None:
    """Run it on each database; exit with 1 after a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=10.0, help="of attacks, all together")
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--pause", type=float, default=2.5, help="mean seconds between faults")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of an outage at most")
    parser.add_argument("--out", type=Path, default=None, help="append the results to this file")
    arguments = parser.parse_args()
    databases = ["sqlite", *(["postgres"] if has_postgres() else [])]
    if arguments.database != "both":
        databases = [arguments.database]
    failed = False
    for database in databases:
        minutes = arguments.minutes / len(databases)
        plan = Plan(arguments.seed, database, minutes, arguments.pause, arguments.longest)
        print(f"seed {plan.seed}, {database}: {plan.minutes:g} minutes", flush=True)
        report = run(plan, lambda line: print(line, flush=True))
        print(json.dumps(report.row(), indent=1), flush=True)
        if arguments.out:
            written(report, arguments.out)
        if report.problems:
            failed = True
            print(report.explain(), flush=True)
            (report.folder / "events.json").write_text(json.dumps(report.events, indent=1))
    sys.exit(failed)


if __name__ == "__main__":
    main()
