# Everything a person or a machine does with this product. It needs Python >= 3.11, pip and make; all that it
# installs goes into $(VENV). Arguments pass through: make demo ARGS="--seed 7"

PYTHON ?= python3
VENV ?= .venv
UV ?= uv
ARGS ?=
BIN := $(VENV)/bin

.PHONY: help demo serve test storm lint bench lock
.DEFAULT_GOAL := help

help:
	@echo "make demo    a made-up district, one real round, and the pages to look at it"
	@echo "make serve   the service itself, on the embedded database unless DATABASE_URL is set"
	@echo "make test    every test; make storm: the long checks whole"
	@echo "make lint    ruff, mypy, import directions"
	@echo "make bench   the benchmarks"
	@echo "make lock    renew the two lock files from pyproject.toml (needs uv)"

demo: $(VENV)/.installed
	@$(BIN)/screening demo $(ARGS)

serve: $(VENV)/.installed
	@$(BIN)/screening serve $(ARGS)

bench: $(VENV)/.installed
	@$(BIN)/screening bench $(ARGS)

# What pytest makes of the tests' own files is kept beside them too: it takes two workers eight seconds each.
COMPILED := PYTHONDONTWRITEBYTECODE=

test: $(VENV)/.installed-test
	$(COMPILED) $(BIN)/python -m pytest -n 2 $(ARGS)

storm: $(VENV)/.installed-test
	SCREENING_STORM=1 $(BIN)/python -m pytest -n 2 -m storm $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.installed: requirements.lock pyproject.toml
	$(install)
	@touch $@

# The test lock holds all of the other one, in the same versions.
$(VENV)/.installed-test: requirements-test.lock requirements.lock pyproject.toml
	$(install)
	@touch $(VENV)/.installed $@

# Debian's python3 may come without ensurepip; the pip beside it then installs into the new environment.
# Our own packages are compiled here too: where Python may not write beside them, each start would do it again.
# setuptools stands in the lock, so that our own packages are put in place without asking any index.
define install
@set -e; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Python 3.11 or later is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }; \
started=$$(date +%s); \
echo "Installing from $< into $(VENV) ..."; \
test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV); \
if $(BIN)/python -m pip --version >/dev/null 2>&1; then pip="$(BIN)/python -m pip"; \
elif $(PYTHON) -m pip --version >/dev/null 2>&1; then pip="$(PYTHON) -m pip --python $(BIN)/python"; \
else echo "pip is needed: install python3-pip or python3-venv" >&2; exit 1; fi; \
test -t 1 || pip="$$pip --quiet"; \
$$pip --disable-pip-version-check install --no-input --require-hashes --only-binary :all: -r $<; \
$$pip --disable-pip-version-check --quiet install --no-input --no-deps --no-index --no-build-isolation -e .; \
$(BIN)/python -m compileall -q api alerts screening instruments alembic; \
echo "Installed in $$(( $$(date +%s) - started )) s."
endef

LOCK = printf 'setuptools>=75\n' | $(UV) pip compile pyproject.toml - --universal --generate-hashes --quiet \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock:
	$(LOCK) $(ARGS) -o requirements.lock
	$(LOCK) $(ARGS) --extra test -c requirements.lock -o requirements-test.lock
