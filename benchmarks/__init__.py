"""What a run of ours costs beside the plain way to do the same."""
