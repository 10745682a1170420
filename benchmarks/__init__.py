"""Measure what the pipeline costs compared with the plain way to do the same."""
