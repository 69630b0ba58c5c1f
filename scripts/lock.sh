#!/usr/bin/env bash
# Resolve the dependencies into hash-checked lock files. They name no registry, so a mirror serves as well.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(ls -d .cache/uv-*/bin/uv | tail -n 1)
compile() {
    out=$1; shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
        --custom-compile-command "make lock" --output-file "requirements/$out" pyproject.toml "$@"
}
compile dev.txt --all-extras --group dev
compile image.txt --extra operator --extra local --extra serve --constraint requirements/dev.txt
"$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
    --custom-compile-command "make lock" --output-file requirements/build.txt --group build --constraint requirements/dev.txt
