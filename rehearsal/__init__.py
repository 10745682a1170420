"""Run the paper's profile at full size on random weights and generated clips."""
