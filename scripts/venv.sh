#!/usr/bin/env bash
# Make .venv from the hash-checked lock file. Usage: scripts/venv.sh <uv version>
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "venv: python3 lacks venv and ensurepip; installing Debian's python3-venv"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv
fi
tools=.cache/uv-$version
if [ ! -x "$tools/bin/uv" ]; then
    echo "venv: fetching uv $version"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet "uv==$version"
fi
uv=$tools/bin/uv
echo "venv: installing the locked packages"
"$uv" venv --quiet --allow-existing .venv
"$uv" pip sync --quiet --python .venv/bin/python --require-hashes requirements/dev.txt
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
touch .venv/.ready
