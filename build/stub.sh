#!/bin/sh
digest=@DIGEST@
{ # read to its end before anything runs: a file cut short here is a syntax error
# mlxserve @VERSION@, build @BUILD@, for @SYSTEM@ @MACHINE@: one file that needs no Python.
# What follows this script is the application, a compressed archive. At its first start the file unpacks it into the
# user's cache, under the build's name; from then on it becomes the application there at once: the same process, by exec.
# `digest` is the SHA-256 of all that follows its line.

build=@BUILD@
system=@SYSTEM@
machine=@MACHINE@
oldest=@OLDEST@
digest_from=@DIGEST_FROM@
script_bytes=@SCRIPT_BYTES@
file_bytes=@FILE_BYTES@
unpacked_kib=@UNPACKED_KIB@
files='@FILES@'

say() {
    printf 'mlxserve: %s\n' "$*" >&3
}

fail() {
    say "error: $*"
    exit 3
}

become() {
    app=$1/$build
    shift
    true 2>/dev/null >"$app/used" # when it was last started: mlxserve/bundle.py reads it
    exec 3>&-
    PATH=$own_path
    export MLXSERVE_FILE="$file"
    exec "$app/mlxserve" "$@"
}

# Whether all of the application is there: who cleans caches may take single files.
# What lies in the folder for temporary files is trusted only where nobody else can have put it there.
is_ready() {
    [ -x "$1/$build/mlxserve" ] || return 1
    [ "$1" != "$temporary" ] || is_own "$1" || return 1
    for name in $files; do
        [ -e "$1/$build/$name" ] || return 1
    done
}

is_own() {
    [ -O "$1" ] && [ ! -L "$1" ]
}

first_start() {
    fits_here
    is_undamaged
    unpack_into "$cache" && return
    say "${cache:-the cache of a user without a home folder} cannot be used: unpacking into $temporary, which the system may empty"
    unpack_into "$temporary" ||
        fail "nor can $temporary: give one of them back to this user, or name another folder in XDG_CACHE_HOME"
}

fits_here() {
    kernel=$(uname -s) processor=$(uname -m)
    if [ "$kernel" = Darwin ] && [ "$(sysctl -n hw.optional.arm64 2>/dev/null)" = 1 ]; then
        processor=arm64 # this shell may run translated
    fi
    [ "$kernel $processor" = "$system $machine" ] ||
        fail "this file is for $system $machine, but this machine is $kernel $processor: take the file made for it"
    case $system in
    Darwin) library=macOS version=$(sw_vers -productVersion) ;;
    *) library=glibc version=$(getconf GNU_LIBC_VERSION) && version=${version##* } ;;
    esac 2>/dev/null
    [ -z "$version" ] || is_at_least "$version" "$oldest" ||
        fail "this file needs $library $oldest or later, but this machine has $version: take the file made for it, or update"
}

is_at_least() {
    awk -v has="$1" -v needs="$2" 'BEGIN {
        split(has, h, "."); split(needs, n, ".")
        for (i = 1; i <= 3; i++) if (h[i] + 0 != n[i] + 0) exit (h[i] + 0 < n[i] + 0)
    }'
}

is_undamaged() {
    bytes=$(wc -c <"$file") || fail "cannot read $file"
    bytes=$((bytes))
    [ "$bytes" = "$file_bytes" ] || fail "$file is damaged: it has $bytes bytes and not $file_bytes; copy it again"
    if command -v sha256sum; then
        found=$(tail -c +"$digest_from" "$file" | sha256sum)
    elif command -v shasum; then
        found=$(tail -c +"$digest_from" "$file" | shasum -a 256)
    else
        found=$digest # the archive has a checksum of its own, a weaker one
    fi >/dev/null
    [ "${found%% *}" = "$digest" ] || fail "$file is damaged: its content is not what its digest says; copy it again"
}

# Returns 1 where nothing can be written or run. A full disk ends the start, and so does an archive that cannot be read.
unpack_into() {
    place=$1
    [ -n "$place" ] || return 1
    has_room "$place"
    if [ "$place" = "$temporary" ]; then
        mkdir -m 700 "$place"
        is_own "$place" || return 1
    else
        mkdir -p "$place" || return 1
    fi 2>/dev/null
    scratch=$(mktemp -d "$place/.unpacking-$(uname -n)-$$-XXXXXX" 2>/dev/null) || return 1
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    say "first start: unpacking into $place/$build"
    mkdir "$scratch/$build" || fail "cannot write to $place"
    complaint=$(tail -c +$((script_bytes + 1)) "$file" | tar -xzof - -C "$scratch/$build" 2>&1) ||
        fail "cannot unpack into $place (is its disk full?): $(printf '%s' "${complaint:-tar was stopped}" | head -n 1)"
    if [ ! -x "$scratch/$build/mlxserve" ]; then # programs may not be run from there
        rm -rf "$scratch"
        return 1
    fi
    is_ready "$place" || [ ! -e "$place/$build" ] || mv "$place/$build" "$scratch/damaged"
    # Of two first starts at the same moment one comes first; the other's folder cannot be moved onto a folder with files.
    mv "$scratch/$build" "$place/" 2>/dev/null || is_ready "$place"
}

has_room() {
    folder=$1
    while [ ! -d "$folder" ] && [ "$folder" != / ]; do folder=$(dirname "$folder"); done
    [ -w "$folder" ] || return 0
    free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
    [ "${free:-$unpacked_kib}" -ge "$unpacked_kib" ] || fail "the disk of $folder is full: unpacking takes \
$((unpacked_kib / 1024 + 1)) MiB and $((free / 1024)) are free; free some, or name a folder elsewhere in XDG_CACHE_HOME"
}

# Whether programs can be put there and run.
is_usable() {
    [ -n "$1" ] && mkdir -p "$1" && probe=$(mktemp "$1/.probe-XXXXXX") || return 1
    chmod 700 "$probe" && [ -x "$probe" ]
    usable=$?
    rm -f "$probe"
    return "$usable"
} 2>/dev/null

main() {
    case $0 in
    /*) file=$0 ;;
    *) file=$PWD/$0 ;;
    esac
    case ${XDG_CACHE_HOME:-} in
    /*) cache=$XDG_CACHE_HOME/mlxserve/builds ;;
    *) cache=${HOME:+$HOME/@CACHE@/mlxserve/builds} ;;
    esac
    temporary=
    command exec 3>&2 || exec 3>/dev/null # stderr may be closed
    own_path=${PATH-}
    if is_ready "$cache"; then become "$cache" "$@"; fi
    PATH=${PATH:+$PATH:}/usr/bin:/bin:/usr/sbin:/sbin
    user=$(id -u)
    if [ "$user" = 0 ] && [ -n "$cache" ] && [ -n "${HOME:-}" ] && [ ! -O "$HOME" ]; then
        cache=~root/@CACHE@/mlxserve/builds # sudo may leave HOME as it is: nothing of root's is put there
        if is_ready "$cache"; then become "$cache" "$@"; fi
    fi
    temporary=${TMPDIR:-/tmp}/mlxserve-$user
    if is_ready "$temporary"; then
        if is_usable "$cache"; then (first_start) 3>/dev/null; fi
    else
        (first_start) || exit
    fi
    if is_ready "$cache"; then become "$cache" "$@"; fi
    if is_ready "$temporary"; then become "$temporary" "$@"; fi
    fail "cannot run what was unpacked: try again"
}

main "$@"
exit
}
