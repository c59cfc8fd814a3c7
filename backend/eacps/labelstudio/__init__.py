"""Everything that depends on Label Studio: its API, tasks, predictions and the web server."""
