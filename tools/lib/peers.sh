# To be sourced: builds the programs of the peers, as far as this machine has what they need.

# NAME, a file that it needs, and the Debian package that brings it.
peer_needs() {
    cat <<'TEXT'
libuv    /usr/include/uv.h                          libuv1-dev
libevent /usr/include/event2/event.h                libevent-dev
libev    /usr/include/ev.h                          libev-dev
asio     /usr/include/boost/asio.hpp                libboost-dev
tokio    /usr/share/cargo/registry/tokio-1*         librust-tokio-dev
TEXT
}

install_peers() {
    local name file package
    while read -r name file package; do
        compgen -G "$file" >/dev/null || install "$package"
    done < <(peer_needs)
    command -v cargo >/dev/null || install cargo
}

# One that cannot be built is named and left out.
build_peers() { # FOLDER
    local folder=$1 name file package c=()
    mkdir -p "$folder"
    rm -f "$folder"/peer-*
    while read -r name file package; do
        if ! compgen -G "$file" >/dev/null; then
            echo "peer $name: skipped, $package is not installed (apt-get install $package, or --install)"
        elif [ "$name" = tokio ]; then
            build_tokio "$folder"
        else
            c+=("$name")
        fi
    done < <(peer_needs)
    if ((${#c[@]})); then make -s -C Benchmarks/Peers PEERS="${c[*]}" OUT="$PWD/$folder" || return 1; fi
    build_nio "$folder"
}

build_tokio() { # FOLDER
    if ! command -v cargo >/dev/null; then
        echo "peer tokio: skipped, cargo is not installed (apt-get install cargo, or --install)"
        return 0
    fi
    make -s -C Benchmarks/Peers PEERS= OUT="$PWD/$1" "$PWD/$1/libcraw.a" || return 1
    # From its own folder: that is where cargo looks for its settings.
    if (folder=$PWD/$1 && cd Benchmarks/Peers/tokio &&
        CRAW_LIB=$folder cargo build --release --offline --target-dir "$folder/tokio") >"$1/tokio.log" 2>&1; then
        cp "$1/tokio/release/peer-tokio" "$1/"
    else
        echo "peer tokio: skipped, it does not build with what is installed (see $1/tokio.log)"
    fi
}

build_nio() { # FOLDER
    if swift build --package-path Benchmarks/Peers/nio -c release --product peer-nio >"$1/nio.log" 2>&1; then
        cp "$(swift build --package-path Benchmarks/Peers/nio -c release --show-bin-path)/peer-nio" "$1/"
    else
        echo "peer nio: skipped, swift-nio cannot be fetched or does not build (see $1/nio.log)"
    fi
}
