#!/bin/sh
# Makes the virtual environment $1 and installs the package with all its extras into it.
# Works with what is there: uv if it is installed, else python3 with its venv and pip.
set -eu
venv=$1
extras='.[parquet,report,dev]'

find_python() {
    for name in python3.13 python3.12 python3.11 python3; do
        # Asked, not trusted: version managers leave shims on PATH for versions that are not there.
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

if ! python=$(find_python); then
    echo 'make setup needs Python 3.11 or newer on PATH; install it, then run the same command again.' >&2
    exit 1
fi

echo "Installing the package and its extras into $venv: a minute or so, the first time."

if command -v uv >/dev/null 2>&1; then
    [ -x "$venv/bin/python" ] || uv venv --quiet --python "$python" "$venv"
    uv pip install --quiet --python "$venv/bin/python" --constraint constraints.txt --editable "$extras"
    exit
fi

# pip comes last: what lacks it was interrupted while it was made.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if ! "$python" -m venv --clear "$venv"; then
        rm -rf "$venv"
        echo "$python lacks the venv module; on Debian: apt-get install python3-venv." >&2
        exit 1
    fi
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable "$extras"
