"""Encode the tokens of every expression with RoBERTa or CLIP, each distinct text once.

Reads the index; writes features/text.zarr by text: `tokens` (P, d_T) float16, zero on padding, and
`length`, the number of tokens including special ones.

    dvc repro text
"""

from pathlib import Path

from sam2love.dataset.index import read_index
from sam2love.device import precision, start_device
from sam2love.encoders.text import load_text_encoder
from sam2love.params import load_params
from sam2love.stores import provenance
from sam2love.stores.store import ArraySpec, fill_store
from stages import run


def main(index_folder: Path, out: Path) -> None:
    """Encode each distinct text in the index once."""
    params = load_params()
    device = start_device(params.runtime)
    index = read_index(index_folder)
    texts = index.expressions["exp"].drop_duplicates().tolist()
    encoder = load_text_encoder(
        params.text.weights,
        params.text.digest,
        max_tokens=params.text.max_tokens,
        device=device,
    )

    def encode(batch: list[str]) -> dict:
        tokens, length = encoder.encode(batch)
        return {"tokens": tokens.numpy(), "length": length.numpy()}

    shape = (params.text.max_tokens, encoder.dim)
    fill_store(
        out,
        specs=[
            ArraySpec("tokens", shape, "float16", 1024, "last hidden state, (tokens, d_T)"),
            ArraySpec("length", (), "int32", 1024, "tokens that are no padding"),
        ],
        ids=texts,
        provenance=provenance.of_features("text", params, index, precision=precision(device)),
        encode=encode,
        batch_size=64,
        description="text",
    )
    if cut := [text for text in texts if encoder.truncation(text)]:
        limit = f"text.max_tokens ({params.text.max_tokens})"
        print(f"note: {len(cut)} texts exceed {limit} and are truncated, the first: {cut[0]!r}")
    print(f"{out}: {len(texts)} texts, {encoder.dim} features per token")


if __name__ == "__main__":
    run(main, processes="runtime")
