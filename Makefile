# Every target sets up what it needs (.ci/setup) and says so.
#   make demo ARGS="--once"    the whole product on this machine: broker, appliance, scanner
#   make demo-update           a repository of releases, a box, and what good and bad ones do to it
#   make quick                 what a change needs in about a minute (.ci/quick.py)
#   make test                  all fast tests, against real peers
#   make test-long             all tests, also in somebody else's viewer
#   make check                 style, types, import contracts, generated files, licences, locks, aarch64 wheels
#   make bench                 how fast, how large, against its peers (docs/benchmarks.md)
#   make gpu-check             on a machine with an NVIDIA GPU: contract suite and a dated table
#   make wheel                 the wheel of a release, with the kernels in it, and its parts list
#   make installer             all that a technician carries to a new box, in one archive (docs/install.md)
#   make lock                  locks/ anew: the newest releases that pyproject.toml allows
#   make bundles               train and pack the factory bundles again from ../shared/data
#   make study                 what each part of the recipes is worth: one table (docs/study.md); days

PY := .venv/bin/python
# Modules are compiled once, as they are on a device: where an environment forbids that, each of the
# hundreds of processes that the tests start compiles all of its own again.
unexport PYTHONDONTWRITEBYTECODE
ARGS ?=
# How many tests run side by side; most of them wait for other processes, not for a core
JOBS ?= 4
# By file, in the order of names: with the files of many tests first, as is usual, those of few and slow
# ones would come last, and in the end one would run alone.
SIDE_BY_SIDE = -n $(JOBS) --dist loadfile --no-loadscope-reorder
.PHONY: demo demo-update quick test test-long check bench gpu-check wheel installer lock bundles study setup-demo setup-demo-update setup-test setup-test-long setup-bench setup-train setup-release

setup-demo:
	@.ci/setup demo $(filter --pacs,$(ARGS))
setup-demo-update:
	@.ci/setup demo-update
setup-test:
	@.ci/setup test
setup-test-long:
	@.ci/setup test-long
setup-bench:
	@.ci/setup bench
setup-train:
	@.ci/setup train
setup-release:
	@.ci/setup release

demo: setup-demo
	@$(PY) -m appliance demo $(ARGS)

demo-update: setup-demo-update
	@$(PY) -m compile demo-update -o demo-out

quick: setup-test
	@$(PY) .ci/quick.py $(ARGS)

test: setup-test
	@$(PY) -m pytest -m "not long" $(SIDE_BY_SIDE) $(ARGS)

test-long: setup-test-long
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(ARGS)

check: setup-test
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PY) -m appliance.verbs.schemas --check
	@$(PY) -m compile.licences
	@$(PY) -m compile.lock --check
	@$(PY) jetson/resolve.py

bench: setup-bench
	@$(PY) -m bench $(ARGS)

gpu-check: setup-test
	@$(PY) -m bench.gpu $(ARGS)

wheel: setup-release
	@$(PY) -m compile wheel -o dist
	@$(PY) -m compile sbom appliance/factory/bundles/*.scanside --extras openvino,engine,update \
		--kernels appliance/backend/kernels.fatbin -o dist/sbom.json

# KIND: x86-64, orin or thor. REPO: the repository whose releases the box will believe (docs/keys.md).
# KEYS: whose bundles it will believe, as .pub files. SOURCE: what a Jetson builds itself (pycuda-*.tar.gz).
KIND := x86-64
MACHINE = $(if $(filter x86-64,$(KIND)),x86_64,aarch64)
installer: wheel
	@$(PY) -m compile.lock --fetch build/wheels/$(MACHINE) --machine $(MACHINE)
	@$(PY) -m compile installer $(KIND) --wheel dist/scanside-$$($(PY) -m appliance --version | cut -d' ' -f2)-*.whl \
		--wheels build/wheels/$(MACHINE) $(if $(REPO),--root $(REPO)/public/metadata/1.root.json) \
		$(foreach key,$(KEYS),--key $(key)) $(if $(SOURCE),--source $(SOURCE)) -o dist

lock: setup-test
	@$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[lock]'
	@$(PY) -m compile.lock

bundles: setup-train
	@tasks=$$($(PY) -m training.run --list) || exit 1; \
	packed=; for task in $$tasks; do \
		$(PY) -m training.run $$task || exit 1; \
		test -e build/$$task/source.json || { echo "$$task: nothing is packed"; continue; }; \
		$(PY) -m compile pack build/$$task --phantom -o build/$$task.scanside && \
		$(PY) -m compile card build/$$task.scanside > docs/cards/$$task.md || exit 1; \
		packed="$$packed build/$$task.scanside"; \
	done; \
	$(PY) -m compile factory $$packed

# Rows of training/recipes/*/study.py that the table does not have; stopped, the same command goes on
study: setup-train
	@$(PY) -m training.study $(ARGS)
