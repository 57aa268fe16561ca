"""Which addresses answer a host: really tried from there, by ping, or by a connection where there is none."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from mlxserve.launch.hostfile import Host
from mlxserve.launch.remote import run_on

Pair = tuple[str, str]
"""The address to try from (empty: whichever the system takes), and the one to try."""

TRY = """\
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
echo
case $(uname -s) in
Darwin) once=(ping -n -c 1 -t 2) from=-S ;;
*) once=(ping -n -c 1 -w 2) from=-I ;;
esac
connects() {
    { exec 3<> "/dev/tcp/$1/22"; } & trying=$!
    { sleep 2; kill $trying; } > /dev/null 2>&1 &
    wait $trying && echo connected
    kill $! 2> /dev/null
}
try() {
    if answer=$("${once[@]}" ${2:+$from} ${2:+"$2"} "$3" 2> /dev/null); then
        answer=${answer#*time=}
        echo "answered $1 ${answer%%[ m]*}"
    else
        case $(connects "$3" 2>&1) in *connected* | *refused*) echo "answered $1 -" ;; esac
    fi
}
"""
"""A machine that refuses a connection has answered. macOS's firewall, in stealth mode, does not answer pings."""


async def answering(host: Host, pairs: Sequence[Pair]) -> dict[Pair, float | None]:
    """Those of `pairs` that answer `host`, with the milliseconds that a ping took (None: no ping, a connection)."""
    tries = [f"try {number} {shlex.quote(near)} {shlex.quote(far)} &" for number, (near, far) in enumerate(pairs)]
    answer = await run_on(host, "\n".join([TRY, *tries, "wait"]))
    told = re.findall(r"^answered (\d+) (-|[\d.]+)$", answer.output, re.MULTILINE)
    return {pairs[int(number)]: None if took == "-" else float(took) for number, took in told}
