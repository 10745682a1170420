"""SAM 2 through the sam2 package: build, encode frames, decode prompts, propagate masks."""
