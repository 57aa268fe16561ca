#!/usr/bin/env bash
# Install, on Debian-like Linux, what the system tests make their hosts of (namespaces joined by cables, each with its
# sshd), and a browser for the page.
# Does nothing elsewhere or when all is there; never fails, since the tests that need it say what is missing.
set -u

[ "$(uname -s)" = Linux ] && command -v apt-get >/dev/null || exit 0

PATH=$PATH:/usr/sbin:/sbin
wanted=()
command -v ip >/dev/null || wanted+=(iproute2)
command -v unshare >/dev/null && command -v setpriv >/dev/null || wanted+=(util-linux)
command -v sshd >/dev/null || wanted+=(openssh-server)
command -v ssh >/dev/null && command -v ssh-keygen >/dev/null && command -v scp >/dev/null || wanted+=(openssh-client)
command -v hostname >/dev/null || wanted+=(hostname)
command -v ping >/dev/null || wanted+=(iputils-ping)
command -v ps >/dev/null || wanted+=(procps)
command -v systemd-analyze >/dev/null || wanted+=(systemd)
command -v chromium >/dev/null || command -v google-chrome >/dev/null || wanted+=(chromium)
[ ${#wanted[@]} -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || { echo "not root: without ${wanted[*]}"; exit 0; }
    sudo=(sudo -n)
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing ${wanted[*]}"
"${sudo[@]}" apt-get update -qq && "${sudo[@]}" apt-get install -qq -y --no-install-recommends "${wanted[@]}" >/dev/null ||
    echo "could not install ${wanted[*]}: going on without"
exit 0
