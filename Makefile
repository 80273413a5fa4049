# `make demo` runs the main job and `make test` the tests. Both set up everything they need in .venv first.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
READY = .venv/ready
BIN = .venv/bin

.PHONY: demo test check slow lock clean

demo: $(READY)
	$(BIN)/promptopt optimize configs/demo.yaml

test: $(READY)
	$(BIN)/python -m pytest -n 2

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

# The tests that take minutes or need a local model, which they pull themselves.
slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Needs uv. Run it after changing a dependency in pyproject.toml.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --upgrade \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements/dev.txt pyproject.toml

clean:
	rm -rf .venv

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	touch $(READY)
