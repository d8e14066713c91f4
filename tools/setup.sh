#!/bin/sh
# Makes the virtual environment that the Makefile works with: tools/setup.sh FOLDER run|test
# With `run` the package alone is installed; with `test` everything that tests and checks need too.
# PYTHON names the interpreter (default: python3). As root on Debian it also installs what is missing
# of the system: the venv module and curl. Tests that need curl, nginx or chromium are skipped without
# them, and say so.
set -eu
folder=$1
what=$2
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

debian_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 ||
        { apt-get update >/dev/null && apt-get install -y --no-install-recommends "$@" >/dev/null; }
}

needs() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || debian_install "$2" ||
        say "$1 is missing: the tests that need it will be skipped (Debian: apt-get install $2)"
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "quick_server needs Python 3.11 or newer, and '$python' is not that."
    say "Install one, or name it: make $what PYTHON=/path/to/python3.11"
    exit 1
}
"$python" -c 'import ensurepip' 2>/dev/null || debian_install python3-venv || {
    say "'$python' cannot make virtual environments. On Debian: sudo apt-get install python3-venv"
    exit 1
}
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
install="$folder/bin/python -m pip install --quiet --disable-pip-version-check --editable"
case $what in
run) $install . ;;
test)
    $install '.[dev]'
    needs curl curl
    ;;
esac
