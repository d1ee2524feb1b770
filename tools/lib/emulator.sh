# To be sourced: emulated machines with Debian's kernels, each with the tests and nothing else in an initial RAM file
# system. For the tools that boot some.
#
# Wants, before `enter`: $root, the tree; $tool, the sourcing tool's name; $keep and $limit, of its options; $filter, a
# regular expression of tests, or empty; a function `title`, which says what a part of the script in the machine is
# called.

source "$root/tools/lib/install.sh"
# The marks in the output of tests are taken as bytes.
export LC_ALL=C

refuse() { echo "tools/$tool: $* (see --help)" >&2; exit 64; }
fail() { echo "tools/$tool: $*" >&2; exit 1; }
tell() { echo "$*" >&2; }

cache=.build-kernels
# An optimized build: what takes longer to build is saved several times over in the machines.
slowness=10
build=(-c release -Xswiftc -enable-testing --scratch-path "$cache/build")
machine=''

# On every way out: no machine is left behind.
cleanup() {
    local status=$?
    trap '' INT TERM HUP
    if [ -n "$machine" ]; then
        kill -KILL "$machine" 2>/dev/null || true
        wait "$machine" 2>/dev/null || true
    fi
    if $keep; then tell "kept: $work"; else rm -rf "$work"; fi
    exit "$status"
}

# Once the options are known: a folder to work in, $work, that goes in the end.
enter() {
    [ "$(uname -m)" = x86_64 ] || fail "made for x86_64; this is $(uname -m)"
    cd "$root"
    mkdir -p "$cache"
    work=$(mktemp -d)
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}

# What is missing is installed, and the tests are built.
build_tests() {
    local begin=$SECONDS
    command -v qemu-system-x86_64 >/dev/null || install qemu-system-x86 >&2
    command -v cpio >/dev/null || install cpio >&2
    tools/setup --quiet >&2
    compiler=${CC:-$(type -P cc || type -P clang)} || fail "there is no C compiler"
    product=$(sed -n 's/^    name: "\(.*\)",$/\1/p' Package.swift | head -n 1)PackageTests
    swift build "${build[@]}" --product "$product" >&2 || fail "the build failed"
    programs=$(swift build "${build[@]}" --show-bin-path)
    tell "$tool: built in $((SECONDS - begin)) s"
}

# MARK: Kernels

# The newest package of a version by these options of apt's. The cloud flavour has the same core and fewer drivers.
newest() { # VERSION, apt options ...
    local version=${1//./\\.}
    shift
    apt-cache "$@" pkgnames "linux-image-" | grep -E "^linux-image-$version\.[0-9][0-9a-z.+~-]*-cloud-amd64$" |
        sort -V | tail -n 1 || true
}

# Lists of our own, with the release's backports: the machine's are left as they are. Mirror and release are the
# machine's.
private_apt() {
    local folder=$root/$cache/apt codename archive release component key=''
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || return 1
    [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
        key='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
        while read -r archive release component; do
            [[ $component == main && $release == "$codename"* ]] || continue
            echo "deb $key $archive $release main"
            [ "$release" != "$codename" ] || echo "deb $key $archive $codename-backports main"
        done | sort -u >"$folder/sources.list"
    [ -s "$folder/sources.list" ] || return 1
    private=(-o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder/cache" -o APT::Sandbox::User=root)
    [ -n "${private_is_fresh:-}" ] || apt-get "${private[@]}" update >"$work/apt.log" 2>&1 || return 1
    private_is_fresh=yes
}

download() { # VERSION, apt options ...: into $work/download
    local package
    package=$(newest "$@")
    shift
    [ -n "$package" ] || return 1
    rm -rf "$work/download"
    mkdir "$work/download"
    (cd "$work/download" && apt-get "$@" -o APT::Sandbox::User=root download "$package") >"$work/apt.log" 2>&1
}

fetch() { # VERSION: sets $image
    local folder=$cache/linux-$1 found
    if ! compgen -G "$folder/vmlinuz-*" >/dev/null; then
        tell "$tool: fetching Linux $1"
        # The machine's lists may lack it, or name what the archive has no longer.
        if ! download "$1"; then
            private=()
            private_apt && download "$1" "${private[@]}" || {
                [ ! -e "$work/apt.log" ] || tail -n 5 "$work/apt.log" >&2
                fail "no package of Linux $1 could be had"
            }
        fi
        # Unpacked beside the system, not installed.
        dpkg-deb -x "$work"/download/*.deb "$work/unpacked"
        mkdir -p "$folder"
        cp "$work"/unpacked/boot/vmlinuz-* "$folder/"
        rm -rf "$work/download" "$work/unpacked"
    fi
    found=("$folder"/vmlinuz-*)
    image=${found[-1]}
}

# MARK: The file system

# Copies programs, and the libraries that they ask for, to where they were or into a folder.
copied() { # FOLDER or '', PROGRAM ...
    local folder=$1 program library
    shift
    for program in "$@"; do
        mkdir -p "$system${folder:-$(dirname "$program")}"
        cp -L "$program" "$system${folder:-$(dirname "$program")}/"
        ldd "$program" | grep -oE '/[^ ]+' | while read -r library; do
            [ ! -e "$system$library" ] || continue
            mkdir -p "$system$(dirname "$library")"
            cp -L "$library" "$system$library"
        done
    done
}

# Writes $work/system.cpio: the tests, what they start, these fixtures, and the script to run, from standard input.
pack() { # FIXTURE ...
    local name
    system=$work/system
    mkdir -p "$system/dev" "$system/tests"
    "$compiler" -static -O1 -o "$system/init" tools/lib/kernel-init.c || fail "tools/lib/kernel-init.c: no program"
    # What the tests start, by the names by which they start it.
    for name in sh sleep true; do copied /bin "$(type -P "$name")"; done
    if command -v strace >/dev/null; then copied /bin "$(type -P strace)"; fi
    copied /tests "$programs/$product.xctest"
    for name in "$@"; do copied /tests "$programs/$name"; done
    {
        echo "export SWIFT_BACKTRACE=enable=no LINUX_EVENT_SLOW=$slowness"
        echo 'read -r release </proc/sys/kernel/osrelease; echo "@release $release"'
        cat
    } >"$system/run-tests"
    (cd "$system" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/system.cpio"
}

# A line of that script: the tests of a target that have this in their names.
suite_line() { # TARGET REGEX
    # The marks on lines of their own, whatever came before.
    printf '%s\n' "echo '@begin $1'" \
        "/tests/$product.xctest --testing-library swift-testing --filter '^$1\\..*($2)'" \
        "printf '\\n@end %s %s\\n' $1 \$?"
}

# MARK: The machine

# Says what the machine is at, whenever that changes, and every half minute.
progress() { # MACHINE, LOG
    local at count
    at=$(sed -n 's/^@begin //p' "$2" 2>/dev/null | tail -n 1)
    if [ -z "$at" ]; then at=boots; else at=$(title "$at"); fi
    if [ "$at" != "$shown" ] || ((SECONDS - shown_at >= 30)); then
        count=$(results "$2" | wc -l)
        tell "$1: $at, $((SECONDS - began)) s$([ "$count" = 0 ] || echo ", $count tests done")"
        shown=$at shown_at=$SECONDS
    fi
}

# Sets $took. Leaves $work/NAME.tests, what the script has printed. Fails where the machine did not come to its end.
boot() { # NAME, what to call it, qemu's options ...
    local called=$2 log=$work/$1.tests console=$work/$1.console qemu=$work/$1.qemu status=0
    shift 2
    began=$SECONDS shown='' shown_at=0
    : >"$log"
    # A terminal's keys go to this script, not to the machine.
    qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 4096 -nodefaults -display none -no-reboot \
        -serial "file:$console" -serial "file:$log" -kernel "$image" -initrd "$work/system.cpio" \
        -append 'console=ttyS0 quiet panic=-1' "$@" </dev/null >"$qemu" 2>&1 &
    machine=$!
    while kill -0 "$machine" 2>/dev/null; do
        progress "$called" "$log"
        if ((SECONDS - began > limit)); then
            tell "$called: not done within $limit s; turned off"
            kill -KILL "$machine" 2>/dev/null || true
            break
        fi
        sleep 1
    done
    wait "$machine" 2>/dev/null || status=$?
    machine=''
    took=$((SECONDS - began))
    if ((status)) || ! grep -q '^init: the script has ended with status 0' "$console"; then
        tell "$called: the machine did not come to its end (qemu: $status). Its last words:"
        { tail -n 20 "$console"; tail -n 20 "$log"; cat "$qemu"; } | tr -d '\r' >&2
        return 1
    fi
}

# MARK: Results

# Of the tests' output: RESULT, a tab, the test's name, a tab, the reason.
results() { # LOG [SUITE]
    sed -n "${2:+/^@begin $2/,/^@end $2/}p" "$1" | tr -d '\r' | sed -nE \
        -e '/^(✔|✘|◇|➜) Test (run|case) /d' \
        -e 's/^✔ Test (.*) passed after [0-9.]+ seconds.*/passed\t\1\t/p' \
        -e 's/^✘ Test (.*) failed after [0-9.]+ seconds.*/failed\t\1\t/p' \
        -e 's/^➜ Test (.*) skipped: "(.*)"$/skipped\t\1\t\2/p' \
        -e 's/^➜ Test (.*) skipped\.?$/skipped\t\1\tno reason given/p' \
        -e 's/^➜ Test (.*) was cancelled after [0-9.]+ seconds: "(.*)"$/skipped\t\1\t\2/p'
}

number() { results "$1" "$2" | grep -c "^$3" || true; } # LOG SUITE RESULT

# With a filter a suite may have no such test, which is status 69.
# Not in a pipe: grep ends at the first match, and what wrote to it would fail.
ended_well() { grep -qE "^@end $2 (0${filter:+|69})\$" <(tr -d '\r' <"$1"); } # LOG SUITE

# A suite that did not come to its end stopped in the middle of this, or after it.
last_started() { # LOG SUITE
    tr -d '\r' <"$1" | sed -n "/^@begin $2/,\$s/^◇ Test \(\".*\) started\.\$/\1/p" | tail -n 1
}

release() { sed -n 's/^@release //p' "$1" | tr -d '\r'; } # LOG

# Adds to `notes` what there is to say of a suite. Fails where it did not end well.
notes=()
note_suite() { # LOG SUITE, what to call the machine
    local kind name reason at status=0
    if ! ended_well "$1" "$2"; then
        status=1
        if ! grep -q "^✘ Test run with " <(sed -n "/^@begin $2/,/^@end $2/p" "$1"); then
            at=$(last_started "$1" "$2")
            notes+=("$3, $(title "$2"): NOT DONE${at:+, but for what came before }$at")
        fi
    fi
    while IFS=$'\t' read -r kind name reason; do
        case $kind in
            skipped) notes+=("$3, skipped: $name: $reason") ;;
            failed) notes+=("$3, FAILED: $name") ;;
        esac
    done < <(results "$1" "$2")
    return "$status"
}

quoted() { sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$/"/' -e 's/[[:cntrl:]]/ /g'; }

list() { # LOG RESULT: as JSON
    local text
    text=$(results "$1" | awk -F '\t' -v wanted="$2" '$1 == wanted { print $2 ($3 == "" ? "" : ": " $3) }' | quoted |
        paste -s -d,)
    echo "[$text]"
}

counts() { # LOG SUITE: as JSON
    printf '{"passed":%d,"failed":%d,"skipped":%d}' \
        "$(number "$1" "$2" passed)" "$(number "$1" "$2" failed)" "$(number "$1" "$2" skipped)"
}

# What failed, with the reasons.
issues() { # LOG
    tr -d '\r' <"$1" | sed -nE '/^✘ Test .* recorded an issue/{p; :more; n; /^(↳| )/{p; b more}}'
}
