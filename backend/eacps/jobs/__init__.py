"""Durable jobs on DBOS: every accepted job ends with exactly one outcome."""
