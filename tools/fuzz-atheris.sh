#!/bin/sh
# Fuzzing guided by coverage: tools/fuzz-atheris.sh SECONDS, for each target of fuzz/guided.py.
# atheris is a native extension that not every system and Python can have: without it nothing is run,
# which is said and is no failure. What is found stays in .fuzz: inputs that cover something, and those
# that broke something (TARGET-crash-...; give such a file to `python -m fuzz.guided TARGET FILE`).
set -eu
seconds=$1
python=${PYTHON:-python3}
folder=.fuzz/venv

ready=$folder/.ready
install="$folder/bin/python -m pip install --quiet --disable-pip-version-check"

if [ ! -e "$ready" ]; then
    [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
    $install --only-binary :all: atheris || {
        echo "atheris cannot be installed for this system and Python: no coverage-guided fuzzing here." >&2
        echo "(make fuzz tries the same properties without it.)" >&2
        exit 0
    }
    $install --editable . pytest hypothesis
    touch "$ready"
fi
for target in parser multipart values; do
    echo "== $target, $seconds s"
    "$folder/bin/python" -m fuzz.guided "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 2>.fuzz/"$target".log || {
        tail -n 40 .fuzz/"$target".log
        exit 1
    }
    grep -E 'DONE|stat::number_of_executed_units|stat::peak_rss_mb' .fuzz/"$target".log
done
