"""Experiments side by side: `dvc exp show --json | sam2love report --compare -`."""
