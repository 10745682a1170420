"""The frozen encoders of audio, frames and text, independent of stores and stages."""
