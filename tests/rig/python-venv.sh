#!/bin/sh
# Makes the Python environment of the foreign gRPC client, once, and prints its path.
#
# It lives in a cache folder and outlives a clean checkout; another list of packages makes another folder. Needs python3
# with venv (Debian: python3-venv), which it installs as root, and a package index at first.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
requirements=$here/python-requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/actioncontroller
version=$(sha256sum "$requirements" | cut -c1-12)
venv=$cache/python-$version

if [ -e "$venv/complete" ]; then
    echo "$venv"
    exit 0
fi

mkdir -p "$cache"
# One at a time: tests run side by side.
exec 9>"$cache/python.lock"
flock 9
if [ ! -e "$venv/complete" ]; then
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        if [ "$(id -u)" != 0 ]; then
            echo "python3 with venv is missing: install python3-venv" >&2
            exit 1
        fi
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv >&2
    fi
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --only-binary :all: --requirement "$requirements" >&2
    touch "$venv/complete"
fi
echo "$venv"
