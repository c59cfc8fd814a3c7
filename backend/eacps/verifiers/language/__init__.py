"""Verifiers that read language: models of servers, and models on this machine."""
