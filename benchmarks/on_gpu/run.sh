#!/usr/bin/env bash
# On a GPU machine, without network: benchmarks/on_gpu/run.sh OUT [arguments of `python -m benchmarks.on_gpu`].
# Leaves gpu.json, gpu.md, tests.log and sections.log in OUT. TESTS=no leaves out the tests.
set -uo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
mkdir -p "$1"
out="$(cd "$1" && pwd)"
shift
work="$(mktemp -d)"

# the wheels that travelled along, if any; see wheels.sh
if compgen -G "$root/.whl/*.whl" >/dev/null; then
  python3 -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --no-cache-dir \
    --target "$work/site" "$root"/.whl/*.whl || exit 1
fi
# the package in its installed shape, by links: the rooms lie beside semantic_edit/ in the repository
mkdir -p "$work/package/semantic_edit"
ln -s "$root"/semantic_edit/* "$work/package/semantic_edit/"
for room in "$root"/*/__init__.py; do
  name="$(basename "$(dirname "$room")")"
  case "$name" in
    semantic_edit) ;;
    benchmarks | training) ln -s "$root/$name" "$work/package/" ;;
    *) ln -s "$root/$name" "$work/package/semantic_edit/" ;;
  esac
done
ln -s "$root/tests" "$root/pyproject.toml" "$work/package/"
export PYTHONPATH="$work/package:$work/site${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1
cd "$work/package" || exit 1

if [ "${TESTS:-yes}" != no ]; then
  OMP_NUM_THREADS=1 timeout "${TEST_SECONDS:-90}" python3 -m pytest -m gpu -n "${WORKERS:-8}" -q -p no:cacheprovider \
    --tb=short --durations=5 tests/gpu tests/pipelines/test_diffedit_plugins.py tests/pipelines/test_stylediffusion_plugins.py tests/flow/test_plugins.py \
    2>&1 | tee "$out/tests.log"
fi
python3 -m benchmarks.on_gpu --out "$out" --tests "$out/tests.log" "$@" 2>&1 | tee "$out/sections.log"
rm -rf "$work"
