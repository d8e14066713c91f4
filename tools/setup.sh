#!/bin/sh
# Makes the virtual environment that the Makefile works with: tools/setup.sh FOLDER
# PYTHON names the interpreter (default: python3). As root on Debian it also installs what is missing
# of the system: the venv module, and the clients that some tests talk through.
set -eu
folder=$1
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

debian_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 ||
        { apt-get update >/dev/null && apt-get install -y --no-install-recommends "$@" >/dev/null; }
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "quick_server needs Python 3.11 or newer, and '$python' is not that."
    say "Install one, or name it: make setup PYTHON=/path/to/python3.11"
    exit 1
}
"$python" -c 'import ensurepip' 2>/dev/null || debian_install python3-venv || {
    say "'$python' cannot make virtual environments. On Debian: sudo apt-get install python3-venv"
    exit 1
}
command -v curl >/dev/null 2>&1 || debian_install curl || say "curl is missing: the tests that need it will be skipped"

"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
