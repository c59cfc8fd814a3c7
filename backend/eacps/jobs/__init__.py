"""Durable jobs on DBOS: a job, once accepted, reaches exactly one outcome."""
