#!/bin/sh
# Takes out of a folder of installed libraries what no program runs (tests, headers, sources of extensions, pyarrow's
# RPC, the symbol tables of the four largest), and compiles the rest: a read-only image could never keep bytecode.
# Bytecode that names no time of its source is the same in every build.
set -eu
cd "$1"
find . -depth -type d \( -name tests -o -name SelfTest -o -name include -o -path '*/torch/test' \) -exec rm -rf {} +
find . -depth -path '*/site-packages/*' \( -name '*.a' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.cpp' \
  -o -name '*_test.py' -o -name '*_flight*' -o -name '*_substrait*' \) -exec rm -rf {} +
find . -path '*/torch/bin/*' ! -name torch_shm_manager -exec rm -rf {} +
# No others: strip breaks libraries whose paths a wheel's maker has rewritten, OpenBLAS among them.
find . -type f \( -name libtorch_cpu.so -o -name libllvmlite.so -o -name '_polars_runtime*.so' -o -name 'libarrow.so.*' \) \
  -exec strip --strip-unneeded {} +
# Left as sources: what no program imports, some of it in the grammar of a later Python.
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$PWD" -p /opt/silokit \
  -x '/(fontTools|networkx|setuptools|torch/(_inductor|ao|onnx|testing))/|/py3[0-9]+_' lib
