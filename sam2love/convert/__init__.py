"""Convert published data sets of other tasks to the layout of Ref-AVS, for one pipeline."""
