# For scripts/quickstart and scripts/test, which source it in the top folder of the checkout: the virtual environment.

# Print the first Python that is new enough, or end with what to do.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "orch needs Python 3.11 or newer; python3 here is $(python3 --version 2>/dev/null || echo 'not there')." >&2
    return 125
}

# prepare_venv NAME ARGUMENT...: make .venv when it is not there, and `pip install ARGUMENT...` in it, unless that was
# done for this pyproject.toml and this folder.
prepare_venv() {
    local stamp=.venv/installed-for-$1 python
    shift
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(what_to_install)" ]; then
        return
    fi
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python)
        echo "making the virtual environment .venv with $("$python" --version)"
        "$python" -m venv .venv 2>/dev/null || uv venv --quiet --seed --clear --python "$python" .venv 2>/dev/null || {
            rm -rf .venv
            echo "$python can't make a virtual environment: on Debian, install python3-venv; uv on the PATH does too." >&2
            return 125
        }
    fi
    echo "installing orch and what it needs in .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
    what_to_install >"$stamp"
}

what_to_install() {
    pwd
    cksum pyproject.toml
}
