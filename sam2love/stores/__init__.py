"""Feature stores in Zarr: written once, resumable, and read in batches."""
