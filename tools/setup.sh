#!/usr/bin/env bash
# Make .venv from a lock, or do nothing where it is up to date.
#
#   tools/setup.sh                                        .venv, requirements.lock, with xpeft
#   tools/setup.sh .venv-oracle oracle/requirements.txt   another environment, without xpeft
#
# Python: $PYTHON, else python3.11 (a local torch wheel may be for it), else any Python >= 3.11.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${1:-.venv}
lock=${2:-requirements.lock}
sources=("$lock" tools/setup.sh)
[[ $venv != .venv ]] || sources+=(pyproject.toml)

# The content of all that decides, and the place: a venv does not survive being moved.
stamp=$(cksum "${sources[@]}" && pwd)
is_ready() {
    [[ -f $venv/.stamp && $(<"$venv/.stamp") == "$stamp" ]] && "$venv/bin/python" -c '' 2>/dev/null
}
is_ready && exit 0

# One at a time; released when this process ends, however it ends.
if command -v flock >/dev/null; then
    exec 9<.
    flock 9
    is_ready && exit 0
fi

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14 python}; do
        if fits "$name"; then
            echo "$name"
            return
        fi
    done
    if [[ -n ${PYTHON:-} ]]; then
        echo "set-up: PYTHON=$PYTHON: not a Python >= 3.11" >&2
    else
        echo "set-up: found no Python >= 3.11 in PATH; install one, or name it: make PYTHON=/path/to/python3.11" >&2
    fi
    return 1
}

# A set-up that was killed leaves its mark; then, or where the venv is broken or was moved,
# start afresh.
mark=$venv/.setting-up
if [[ -e $mark ]] || ! fits "$venv/bin/python" || ! grep -qsF "$PWD/$venv" "$venv/bin/activate"; then
    python=$(find_python)
    echo "set-up: making $venv with $("$python" --version)" >&2
    if ! "$python" -m venv --clear "$venv" >&2; then
        echo "set-up: $python cannot make a venv; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi
touch "$mark"
rm -f "$venv/.stamp"

# The log keeps all that pip says; on the screen only a count, and the errors if there are any.
log=$venv/setup.log
: >"$log"
run_pip() {
    local code=0
    PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
        "$venv/bin/python" -m pip --no-input install --progress-bar off "$@" 2>&1 |
        tee -a "$log" |
        awk -v total="$total" '
            /^(Collecting|Processing) /         { if (++n % 20 == 0) say(n " of " total " packages found") }
            /^Installing collected packages/    { if (n > 1) say("installing them") }
            function say(text)                  { print "set-up: " text; fflush() }' >&2 || code=$?
    if ((code)); then
        # Half-made only if it had begun to install; else what was there is as it was.
        grep -q '^Installing collected packages' "$log" || rm -f "$mark"
        grep -i '^ *error' "$log" | sort -u >&2 || true
        echo "set-up: pip failed; all it said is in $PWD/$log" >&2
        exit 1
    fi
}

total=$(grep -c '==' "$lock")
echo "set-up: installing $total packages from $lock into $venv (some minutes)" >&2
run_pip -r "$lock"
if [[ $venv == .venv ]]; then
    run_pip --no-deps --no-build-isolation -e .
fi
"$venv/bin/python" -m pip check 2>/dev/null >>"$log" || {
    rm -f "$mark"
    "$venv/bin/python" -m pip check >&2 2>/dev/null || true
    echo "set-up: $lock does not fit together, or $venv holds other packages; delete $venv and run again" >&2
    exit 1
}
rm -f "$mark"
printf '%s\n' "$stamp" >"$venv/.stamp"
echo "set-up: $venv is ready" >&2
