"""Rubrics: what a judge that reads language is asked about an edit, as data files."""
