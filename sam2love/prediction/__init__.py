"""Segment any video: decode it, predict, write masks and overlays, serve a web page."""
