#!/usr/bin/env bash
# Install what MLX's CPU backend wants on Debian-like Linux: OpenBLAS (30 to 70 times the speed of the reference BLAS) and
# g++ (mx.compile calls it). Does nothing elsewhere or when both are there; never fails, since all works without, slower.
set -u

[ "$(uname -s)" = Linux ] && command -v apt-get >/dev/null || exit 0

wanted=()
ldconfig -p 2>/dev/null | grep -q libopenblas || wanted+=(libopenblas0-pthread)
command -v g++ >/dev/null || wanted+=(g++)
[ ${#wanted[@]} -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || { echo "not root: without ${wanted[*]}"; exit 0; }
    sudo=(sudo -n)
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing ${wanted[*]}"
"${sudo[@]}" apt-get update -qq && "${sudo[@]}" apt-get install -qq -y "${wanted[@]}" >/dev/null ||
    echo "could not install ${wanted[*]}: going on without"
exit 0
