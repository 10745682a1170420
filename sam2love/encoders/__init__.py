"""The frozen encoders of sound, pictures and sentences; they know nothing of stores or stages."""
