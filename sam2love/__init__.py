"""SAM2-LOVE: a sentence, a sound and a video go in, the mask of what is meant comes out."""
