#!/usr/bin/env bash
# Gather what a GPU machine without network lacks into .whl/ (git ignores it): benchmarks/on_gpu/wheels.sh [NAME==VERSION ...]
# For Linux on x86-64 and Python 3.12; another is chosen by PYTHON_VERSION. PyTorch and transformers must be there.
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf .whl
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(diffusers==0.42.1 importlib_metadata==8.7.0 zipp==3.23.0)
platforms=()
for one in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
  platforms+=(--platform "${one}_x86_64")
done
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --python-version "${PYTHON_VERSION:-3.12}" --implementation cp "${platforms[@]}" --dest .whl "${wanted[@]}"
du -ch .whl/*
