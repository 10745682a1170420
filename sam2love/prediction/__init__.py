"""Segment anyone's video: decode it, predict, write masks and overlays, and a web page for it."""
