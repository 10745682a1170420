"""The paper's profile, run at full size on random weights and generated clips: `make rehearsal`."""
