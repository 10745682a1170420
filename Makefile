# Everything runs in .venv, which the first target that needs it sets up. Each Python is started, since
# pyenv has a command for those that it doesn't select.
PYTHON ?= $(or $(shell for version in 3.11 3.12 3.13; do \
	python$$version -c '' 2>/dev/null && echo python$$version && break; done),\
	$(error Python 3.11, 3.12 or 3.13 not found; install one, or name it: make PYTHON=...))
BIN := .venv/bin
DVC := PATH="$(CURDIR)/$(BIN):$$PATH" dvc
export SAM2_BUILD_CUDA := 0
# Two processes of tests, a thread each. Threads that wait sleep: by default they spin, and where
# tests start processes with more threads, they would take the core that the others wait for.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses 2

.PHONY: repro test test-slow check docs verify bench rehearsal mini-backbones

repro: .venv/ready  ## rebuild the whole pipeline, from data to report
	$(DVC) repro

test: .venv/ready
	$(PYTEST) --dist worksteal

test-slow: .venv/ready  ## kills, processes, the wheel, the docs' commands, the demo
	$(PYTEST) --dist loadfile -m slow

check: .venv/ready  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/ready  ## the site in site/
	$(BIN)/mkdocs build --strict

verify: .venv/ready  ## figures against the committed ones, and the same bytes twice
	$(BIN)/python -m tests.verify

bench: .venv/ready
	$(BIN)/python -m benchmarks

rehearsal: .venv/ready  ## the paper's profile at full size, on random weights and a few clips
	$(BIN)/python -m rehearsal

# DVC runs no frozen stage, not even by force, so the stages' commands stand here once more. On a core
# of its own: SAM 2 30 to 45 minutes, ViT 15, VGGish 10, RoBERTa 2. An interrupted SAM 2 goes on.
mini-backbones: .venv/ready  ## pre-train the committed mini weights again (about an hour)
	$(BIN)/python -m mini.pretrain_sam2
	$(BIN)/python -m mini.evaluate_sam2
	$(BIN)/python -m mini.pretrain_vit
	$(BIN)/python -m mini.pretrain_vggish
	$(BIN)/python -m mini.pretrain_roberta
	$(BIN)/python -m mini.cards
	$(DVC) commit --force $(addprefix mini/dvc.yaml:,sam2 vit vggish roberta)

# sam2 comes as a source package whose build wants torch, so torch comes first.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt pip setuptools wheel
	$(BIN)/pip install --quiet --constraint constraints.txt torch torchvision torchaudio
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation sam2
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[pipeline,demo,dev,docs]'
	touch $@
