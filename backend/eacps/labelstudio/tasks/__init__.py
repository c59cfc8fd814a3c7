"""Reads tasks of Label Studio."""
