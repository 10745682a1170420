"""Score masks: metrics, protocols, baselines, intervals. Nothing here needs torch."""
