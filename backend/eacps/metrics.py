"""What orchestrators and workers count, as Prometheus metrics of their process.

docs/observability.md lists them; those of the web process are in `labelstudio/web/metrics.py`.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_LONG_SECONDS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)

# Workers
BATCHES: Final = Counter("eacps_batches", "Batches that ended, by outcome.", ["outcome"])
BATCH_SECONDS: Final = Histogram(
    "eacps_batch_seconds", "Seconds to render and score a batch.", buckets=_SECONDS
)
BUSY: Final = Gauge("eacps_device_busy", "1 while the device runs a batch, else 0.")
RENDERS: Final = Counter(
    "eacps_renders",
    "Candidates by outcome; `stored` ones had been rendered before.",
    ["outcome"],
)
RENDER_SECONDS: Final = Histogram(
    "eacps_render_seconds", "Seconds per rendered picture.", buckets=_SECONDS
)
EVALUATIONS: Final = Counter(
    "eacps_denoiser_evaluations", "Forward passes of the denoiser (NFE) that were run."
)
SCORE_SECONDS: Final = Histogram(
    "eacps_score_seconds", "Seconds a scorer took for a batch.", ["scorer"], buckets=_SECONDS
)
SCORER_FAILURES: Final = Counter(
    "eacps_scorer_failures", "Batches that a scorer could not score.", ["scorer"]
)
JUDGE_CALLS: Final = Counter(
    "eacps_judge_calls", "Requests to servers that judge, by outcome.", ["judge", "outcome"]
)
JUDGE_SECONDS: Final = Histogram(
    "eacps_judge_seconds",
    "Seconds a server that judges took for a request.",
    ["judge"],
    buckets=_SECONDS,
)
JUDGE_TOKENS: Final = Counter(
    "eacps_judge_tokens",
    "Tokens by the count of servers that judge: read (sent to them) and written (answered).",
    ["judge", "kind"],
)
MODEL_LOAD_SECONDS: Final = Gauge(
    "eacps_model_load_seconds", "Seconds it took to load the models at the start."
)

# Orchestrators
SEARCHES: Final = Counter("eacps_searches", "Searches that ended, by outcome.", ["outcome"])
SEARCH_SECONDS: Final = Histogram(
    "eacps_search_seconds",
    "Seconds of a search, or of its rest if it was interrupted.",
    buckets=_LONG_SECONDS,
)
DELIVERIES: Final = Counter(
    "eacps_deliveries",
    "Deliveries by outcome; `reported` ones told a task why it has no result.",
    ["outcome"],
)
RETRIES: Final = Counter(
    "eacps_retries", "Attempts that are repeated later, by what was attempted.", ["step"]
)
JOB_FAILURES: Final = Counter(
    "eacps_job_failures", "Jobs that failed, by the code of their failure.", ["code"]
)

# Both
OUTAGES: Final = Counter(
    "eacps_outages", "Outages of the database, the store or a disk that were waited for."
)
OUTAGE_SECONDS: Final = Counter("eacps_outage_seconds", "Seconds spent waiting for outages to end.")
WAITING: Final = Gauge("eacps_outage", "1 while the process waits for an outage to end, else 0.")

for _outcome in ("done", "failed", "cancelled"):
    BATCHES.labels(_outcome)
for _outcome in ("done", "failed", "stored"):
    RENDERS.labels(_outcome)
for _outcome in ("done", "failed"):
    SEARCHES.labels(_outcome)
for _outcome in ("delivered", "reported", "failed", "lost"):
    DELIVERIES.labels(_outcome)
for _step in ("prepare", "deliver", "report"):
    RETRIES.labels(_step)
