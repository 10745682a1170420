"""`python -m sam2love` is `sam2love`."""

from sam2love.cli import app

app()
