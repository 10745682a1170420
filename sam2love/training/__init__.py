"""The training of SAM2-LOVE (section 4.1): batches, steps, several processes, checkpoints."""
