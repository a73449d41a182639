# Everything a developer does, with the Python named by PYTHON.
PYTHON ?= python3
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check
CLANG_FORMAT := $(PYTHON) -c 'import clang_format; clang_format.clang_format()'

C_FILES := $(wildcard convcore/include/*.h convcore/src/*.[ch] \
  convcore/kernels/*.h convcore/kernels/*.inc convcore/isa/*.c \
  convcore/tests/*.[ch] examples/embed_c/*.c)

.PHONY: help build test test-c test-full test-onnx test-opinfo lint format bench \
  bench-forward bench-backward bench-operators bench-infer bench-train docs clean

help:
	@echo "make build    install in place (editable) with the development tools"
	@echo "make test     the Python tests, the C tests also with sanitizers"
	@echo "make test-full  also the accuracy of every layer, on every instruction set"
	@echo "make test-onnx  the test suite of the ONNX project: counts and reasons"
	@echo "make test-opinfo  torch's own samples of the functions that both have"
	@echo "make lint     ruff and clang-format, checking only"
	@echo "make format   ruff and clang-format, changing files"
	@echo "make bench    measure against NumPy and what else is installed"
	@echo "make bench-forward"
	@echo "              networks' convolutions against every peer (ARGS=--help)"
	@echo "make bench-backward"
	@echo "              their gradients against torch (ARGS=--help)"
	@echo "make bench-operators"
	@echo "              other operators and their gradients (ARGS=--help)"
	@echo "make bench-infer"
	@echo "              whole networks against every peer (ARGS=--help)"
	@echo "make bench-train"
	@echo "              training steps of whole networks against torch (ARGS=--help)"
	@echo "make docs     the manual in docs/_build/html"
	@echo "make clean    remove what was built"

build:
	$(PIP) --editable '.[dev]'

test: build test-c
	$(PYTHON) -m pytest

test-c:
	$(MAKE) -C convcore test
	$(MAKE) -C convcore test SANITIZE=address,undefined

# torch's own samples, with their numbers; needs torch and expecttest.
test-opinfo: build
	$(PYTHON) -m pytest -q tests/test_opinfo.py

test-full: test
	for isa in $$($(PYTHON) -c 'from convcore._core import isas_available as f; \
	  print(*f())'); do CONVCORE_ISA=$$isa $(PYTHON) -m pytest -q \
	  tests/test_accuracy.py tests/test_nonfinite.py || exit; done

test-onnx: build
	$(PYTHON) -m tests.onnx_suite $(ARGS)

lint: build
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(CLANG_FORMAT) --dry-run --Werror $(C_FILES)

format: build
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	$(CLANG_FORMAT) -i $(C_FILES)

bench:
	$(PIP) --editable '.[bench]'
	$(PYTHON) -m benchmarks

bench-forward:
	$(PIP) --editable '.[bench]'
	$(PYTHON) -m benchmarks.forward $(ARGS)

bench-backward:
	$(PIP) --editable '.[bench]'
	$(PYTHON) -m benchmarks.backward $(ARGS)

bench-operators:
	$(PIP) --editable '.[bench]'
	$(PYTHON) -m benchmarks.operators $(ARGS)

bench-infer:
	$(PIP) --editable '.[bench]'
	$(PYTHON) -m benchmarks.infer $(ARGS)

bench-train:
	$(PIP) --editable '.[bench]'
	$(PYTHON) -m benchmarks.train $(ARGS)

docs:
	$(PIP) --editable '.[docs]'
	$(PYTHON) -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf build docs/_build src/convcore/lib src/convcore/_core.*.so
