# make demo      set up what the demo needs, then run a trained model on three boards
# make test      set up what the tests need, then run them
# make bench     time the integer runtime on this machine beside PyTorch
# make bench-imagenet  models of ImageNet size on the integer runtime, one image each
# make bench-kernels  the spike kernels, layer by layer, beside LiteRT, ONNX Runtime and PyTorch
# make bench-models   whole models on the integer runtime beside LiteRT, and their dense twins
# make docs      write docs/cli.md from the commands
# make lint      ruff over everything
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test bench bench-imagenet bench-kernels bench-models docs lint system clean

demo: $(VENV)/.ready
	$(BIN)/edgesvit deploy --target host,qemu-aarch64,qemu-mps3-an547

test: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

bench: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/host_runtime.py

bench-imagenet: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/imagenet_size.py

bench-kernels: $(VENV)/.ready-bench
	$(BIN)/python benchmarks/kernels.py

bench-models: $(VENV)/.ready-bench
	$(BIN)/python benchmarks/models.py

docs: $(VENV)/.ready-dev
	$(BIN)/python -m edgesvit.cli.reference > docs/cli.md

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .

# Cross compilers and QEMU from Debian's packages.
system:
	@scripts/system-packages

$(BIN)/python: | system
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml | system $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

# torch first and by itself: nothing may pull another build of it.
$(VENV)/.ready-dev: pyproject.toml | system $(BIN)/python
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.ready

$(VENV)/.ready-bench: pyproject.toml | $(VENV)/.ready-dev
	scripts/system-packages llvm-19
	$(BIN)/pip install --quiet --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist
