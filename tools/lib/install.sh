# To be sourced: installing what is missing, with apt-get. Wants a function `fail` that prints and exits.

install() { # package, what to do where there is no apt-get
    local root=() package=$1 otherwise=${2:-install it}
    command -v apt-get >/dev/null || fail "$package is missing, and there is no apt-get: $otherwise"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "$package is missing: run 'apt-get install $package' as root"
        # Without a terminal there is nobody to type a password.
        root=(sudo)
        [ -t 0 ] || root=(sudo -n)
    fi
    echo "setup: installing $package"
    local log
    log=$(mktemp)
    local install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive
        apt-get install -y --no-install-recommends "$package")
    # The lists of a fresh image are empty or old: fetched only when the first try shows it.
    if ! "${install[@]}" >"$log" 2>&1 </dev/null; then
        if ! { "${root[@]}" apt-get update && "${install[@]}"; } >"$log" 2>&1 </dev/null; then
            tail -n 5 "$log" >&2
            rm -f "$log"
            fail "could not install $package: run 'apt-get update && apt-get install $package' as root"
        fi
    fi
    rm -f "$log"
}
