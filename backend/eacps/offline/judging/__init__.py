"""Judging without rendering: how well judges judge, and finished results under another judge."""
