# make demo   the main job on embedded defaults: no Node, no server, no account
# make test   everything: checks, unit and in-process tests, and other people's clients on a real chain
# make check  formatting, lint, types, layers

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UPLOT := $(CURDIR)/bridge/dashboard/static
ANVIL := $(CURDIR)/tests/interop/peers/node/node_modules/@foundry-rs/anvil-linux-amd64/bin

.PHONY: demo test check peers fuzz faults gateway-load bench profile browser uplot clean

demo: $(VENV)/demo.stamp
	$(BIN)/x402-mpp demo

test: check peers browser
	PATH="$(ANVIL):$$PATH" $(BIN)/pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tests.layers

peers: $(VENV)/dev.stamp
	$(BIN)/python -m tests.interop.peers.install

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.translators.fuzz --count 1000000

# Needs PostgreSQL's and Redis's binaries: it starts servers of its own. Fifty minutes on two cores.
faults: $(VENV)/dev.stamp
	$(BIN)/python -m tests.faults --all

# A gibibyte each way through the gateway, and a thousand payments while the server behind it ends and comes back.
gateway-load: peers
	PATH="$(ANVIL):$$PATH" $(BIN)/python -m tests.gateway

# Everybody side by side: a quarter of an hour, and what it measures goes into docs/performance.md.
bench: peers
	command -v wrk >/dev/null || apt-get install --yes --quiet wrk
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	$(BIN)/python -m tests.benchmarks

profile: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	$(BIN)/py-spy record --function --rate 250 --output docs/performance-profile.svg -- $(BIN)/python -m tests.benchmarks.profiled

# What the tests click through the dashboard with.
browser:
	command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends chromium chromium-driver; }

# The dashboard's charts, as bridge/dashboard/static/uplot-origin.txt has them: fetched anew, and compared with it.
uplot:
	folder=$$(mktemp -d) && cd "$$folder" && npm pack --silent uplot@1.6.32 >/dev/null && tar xzf uplot-1.6.32.tgz && \
		cp package/dist/uPlot.iife.min.js $(UPLOT)/uplot.js && cp package/dist/uPlot.min.css $(UPLOT)/uplot.css && \
		cp package/LICENSE $(UPLOT)/uplot-license.txt && rm -r "$$folder"
	cd $(UPLOT) && grep --extended-regexp '^[0-9a-f]{64}  ' uplot-origin.txt | sha256sum --check

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	touch $@

# pip learns of dependency groups in 25.1, so it is brought up first.
$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev
	touch $@

clean:
	rm -rf $(VENV) .peers tests/interop/peers/node/node_modules
