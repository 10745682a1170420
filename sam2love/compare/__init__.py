"""Compare experiments: `dvc exp show --json | sam2love report --compare -`."""
