"""Zarr stores of features and predictions: written once, resumable, read in batches."""
