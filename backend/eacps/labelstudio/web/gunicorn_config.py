"""Gunicorn settings that have no command-line option; `eacps serve` passes this file."""

worker_class = "eacps.labelstudio.web.buffering_worker.BufferingWorker"
worker_connections = 500
# The main loop sends what threads write, so an answer must go through them.
sendfile = False
