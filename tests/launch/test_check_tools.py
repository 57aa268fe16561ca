"""What the system's tools print, macOS's among them, and what is read from it."""

from mlxserve.launch.check.facts import oldest_macos
from mlxserve.launch.check.tools import available_memory, interfaces, rdma_devices, said, sleep_minutes

IFCONFIG = """\
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether 3c:a6:f6:00:00:01
\tinet6 fe80::1c:1%en0 prefixlen 64 secured scopeid 0xe
\tinet 192.168.1.20 netmask 0xffffff00 broadcast 192.168.1.255
bridge0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tinet 192.168.5.1 netmask 0xfffffffc broadcast 192.168.5.3
\tinet 169.254.7.9 netmask 0xffff0000 broadcast 169.254.255.255
"""
IP = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
3: thunderbolt0@if3: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    inet 192.168.5.1/30 scope global thunderbolt0
       valid_lft forever preferred_lft forever
"""
VM_STAT = """\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            350000.
Pages inactive:                           20000.
Pages speculative:                         3000.
Pages throttled:                              0.
Pages wired down:                        120000.
Pages purgeable:                            400.
"Translation faults":                 123456789.
"""
PMSET = """\
System-wide power settings:
Currently in use:
 standby              0
 Sleep On Power Button 1
 womp                 1
 autorestart          0
 disksleep            10
 sleep                1 (sleep prevented by sharingd, powerd)
 displaysleep         10
"""
IBV_DEVICES = """\
    device          \t   node GUID
    ------          \t----------------
    rdma_en2        \te0c5797d9c8fac05
    rdma_en3        \te1c5797d9c8fac05
"""


def test_addresses_are_read_with_their_interfaces() -> None:
    assert interfaces(IFCONFIG) == ("192.168.1.20 (en0)", "192.168.5.1 (bridge0)", "169.254.7.9 (bridge0)")
    assert interfaces(IP) == ("192.168.5.1 (thunderbolt0)",)
    assert interfaces("") == ()


def test_memory_that_can_be_had_is_more_than_what_is_free() -> None:
    assert available_memory(VM_STAT) == (10000 + 20000 + 3000 + 400) * 16384
    assert available_memory("") == 0


def test_sleep_is_not_taken_for_that_of_disk_or_display() -> None:
    assert sleep_minutes(PMSET) == 1
    assert sleep_minutes(PMSET.replace(" sleep                1", " sleep                0")) == 0
    assert sleep_minutes("") == 0


def test_rdma_devices_are_read_without_the_head() -> None:
    assert rdma_devices(IBV_DEVICES) == ("rdma_en2", "rdma_en3")
    assert rdma_devices("") == ()


def test_a_tool_that_is_missing_or_fails_says_nothing() -> None:
    assert said("no-such-tool-anywhere") is None
    assert said("false") is None
    assert said("echo", "yes") == "yes\n"


def test_the_oldest_macos_is_that_of_the_wheel() -> None:
    assert oldest_macos(["macosx_14_0_arm64"]) == "14.0"
    assert oldest_macos(["macosx_26_0_arm64"]) == "26.2"
    assert oldest_macos(["manylinux_2_35_x86_64"]) == ""
