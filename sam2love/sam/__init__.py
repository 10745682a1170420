"""All that touches the sam2 package: build, encode pictures, decode prompts, propagate masks."""
