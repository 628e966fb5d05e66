#!/bin/sh
# Takes out of a folder of installed libraries what no program runs: tests, headers, sources and type stubs of
# extensions, what installs and builds, second copies, the symbol tables of the largest. Then compiles the rest: a
# read-only image could never keep bytecode. Bytecode that names no time of its source is the same in every build.
set -eu
cd "$1/lib"
find . -depth -type d \( -name tests -o -name SelfTest -o -name include -o -path '*/torch/test' -o -name 'setuptools*' \
  -o -name pkg_resources -o -name _distutils_hack \) -exec rm -rf {} +
find . \( -name '*.a' -o -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.h' -o -name '*.px[di]' -o -name '*.pyi' \
  -o -name '*.pyx' -o -name distutils-precedence.pth -o -path '*/pyarrow/*flight*' -o -path '*/pyarrow/libarrow*.so' \
  -o -path '*/pyarrow/*.so.*.*.*' \) -delete
find . -path '*/torch/bin/*' ! -name torch_shm_manager -delete
# No others: strip breaks libraries whose paths a wheel's maker has rewritten, OpenBLAS among them.
find . \( -name 'libtorch_*.so' -o -name libllvmlite.so -o -name '_polars_runtime*.so' -o -name 'libarrow.so.*' \) \
  -exec strip --strip-unneeded {} +
# Left as sources: what is hardly ever imported, some of it in the grammar of a later Python.
python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash -s "$1" -p /opt/silokit \
  -x '/(fontTools|networkx|pygments/lexers|torch/(_inductor|testing))/' "$PWD"
