"""Score masks: metrics, protocols, baselines, intervals; none of it needs torch."""
