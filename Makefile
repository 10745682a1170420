# Everything runs in .venv, which the first target that needs it sets up.
PYTHON ?= python3.11
BIN := .venv/bin
DVC := PATH="$(CURDIR)/$(BIN):$$PATH" dvc
export SAM2_BUILD_CUDA := 0

.PHONY: repro test check verify bench mini-backbones

repro: .venv/ready  ## rebuild the whole pipeline, from data to report
	$(DVC) repro

test: .venv/ready
	$(BIN)/pytest

check: .venv/ready  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

verify: .venv/ready  ## figures against the committed ones, and the same bytes twice
	$(BIN)/python -m tests.verify

bench: .venv/ready
	$(BIN)/python -m benchmarks

mini-backbones: .venv/ready  ## pre-train the committed mini weights again (about an hour)
	$(DVC) repro --force --single-item mini/dvc.yaml:sam2 mini/dvc.yaml:vit mini/dvc.yaml:vggish mini/dvc.yaml:roberta

# sam2 comes as a source package whose build wants torch, so torch comes first.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt pip setuptools wheel
	$(BIN)/pip install --quiet --constraint constraints.txt torch torchvision torchaudio
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation sam2
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[pipeline,dev]'
	touch $@
