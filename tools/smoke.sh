#!/bin/sh
# Proves that the wheel is whole: built, installed without extras into an empty environment, outside of this tree,
# and used for a download. $1: the development environment's python. $2: a folder to work in.
set -eu
python=$1
work=$2
root=$(pwd)
rm -rf "$work"
mkdir -p "$work"
work=$(cd "$work" && pwd)

"$python" -m build --wheel --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; exit 1; }
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/constraints.txt" "$work"/dist/*.whl
# Away from the sources: what is imported from here on is the wheel.
cd "$work"
"$work/venv/bin/scraper" --version
"$work/venv/bin/scraper" --help >/dev/null
"$work/venv/bin/scraper" images --help >/dev/null
"$work/venv/bin/python" "$root/tools/smoke.py" "$work/venv/bin/scraper" "$work/out"
echo 'smoke: the wheel works on its own'
