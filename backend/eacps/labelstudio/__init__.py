"""The only place that knows Label Studio: requests in, enriched tasks and predictions out."""
