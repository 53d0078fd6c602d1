# Everything sets itself up: a machine with Python 3.11 or later and make is enough.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# PyTorch's CPU build of the tested version is used where pip can find it.
CONSTRAINTS = constraints.txt

.PHONY: demo test check test-slow test-chaos test-gpu clean

demo: $(VENV)/.ready
	$(BIN)/tracknet demo --out demo

# Most of the time goes into starting Ray and waiting for it, so three files run side by side.
test: $(VENV)/.ready-dev
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -m "not slow and not gpu" -n 3 --dist loadfile --no-loadscope-reorder

# Minutes-long tests, such as memory over a long video.
test-slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -q -m slow

# Kills parts of runs a hundred times and compares the rows; takes about half an hour.
test-chaos: $(VENV)/.ready-dev
	$(BIN)/python -m tests.chaos --kills 100

# Needs a CUDA device and a PyTorch built for it.
test-gpu: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -q -m gpu

check: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(VENV)/typed && mkdir -p $(VENV)/typed/tracknet
	ln -s $(CURDIR)/tracknet/*.py $(addprefix $(CURDIR)/,commands jobs pipeline schemas) $(VENV)/typed/tracknet
	MYPYPATH=$(VENV)/typed $(BIN)/mypy -p tracknet

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[openvino]'
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
