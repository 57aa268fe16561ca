"""What hosts tell of their interfaces: as macOS and Linux print it."""

import json

import pytest

from mlxserve.launch.interfaces import Interface, Kind, interfaces_from

IFCONFIG = """\
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128
gif0: flags=8010<POINTOPOINT,MULTICAST> mtu 1280
anpi0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether 5e:3d:c3:11:22:33
\tmedia: none
\tstatus: inactive
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=567<RXCSUM,TXCSUM,VLAN_MTU,TSO4,TSO6,AV,CHANNEL_IO>
\tether d0:11:e5:aa:bb:cc
\tinet6 fe80::1c5e:9d2b:1111:2222%en0 prefixlen 64 secured scopeid 0xb
\tinet 192.168.1.23 netmask 0xffffff00 broadcast 192.168.1.255
\tnd6 options=201<PERFORMNUD,DAD>
\tmedia: autoselect (1000baseT <full-duplex>)
\tstatus: active
en5: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether 5e:3d:c3:11:22:34
\tstatus: inactive
en2: flags=8963<UP,BROADCAST,SMART,RUNNING,PROMISC,SIMPLEX,MULTICAST> mtu 1500
\toptions=460<TSO4,TSO6,CHANNEL_IO>
\tether 36:f5:11:22:33:40
\tmedia: autoselect <full-duplex>
\tstatus: active
en3: flags=8963<UP,BROADCAST,SMART,RUNNING,PROMISC,SIMPLEX,MULTICAST> mtu 1500
\tether 36:f5:11:22:33:44
\tstatus: inactive
bridge0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=63<RXCSUM,TXCSUM,TSO4,TSO6>
\tether 36:f5:11:22:33:40
\tinet 192.168.5.1 netmask 0xfffffffc broadcast 192.168.5.3
\tConfiguration:
\t\tid 0:0:0:0:0:0 priority 0 hellotime 0 fwddelay 0
\t\tmaxage 0 holdcnt 0 proto stp maxaddr 100 timeout 1200
\t\troot id 0:0:0:0:0:0 priority 0 ifcost 0 port 0
\t\tipfilter disabled flags 0x0
\tmember: en2 flags=3<LEARNING,DISCOVER>
\t        ifmaxaddr 0 port 8 priority 0 path cost 0
\tmember: en3 flags=3<LEARNING,DISCOVER>
\t        ifmaxaddr 0 port 9 priority 0 path cost 0
\tnd6 options=201<PERFORMNUD,DAD>
\tmedia: <unknown type>
\tstatus: active
ap1: flags=8802<BROADCAST,SIMPLEX,MULTICAST> mtu 1500
\tether f6:d4:88:11:22:33
en1: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether f4:d4:88:11:22:33
\tinet 192.168.1.77 netmask 0xffffff00 broadcast 192.168.1.255
\tstatus: active
awdl0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tinet6 fe80::8c5e:11ff:fe22:3344%awdl0 prefixlen 64 scopeid 0x10
\tstatus: active
utun4: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1280
\tinet 100.101.102.103 --> 100.101.102.103 netmask 0xffffffff
bridge100: flags=8a63<UP,BROADCAST,SMART,RUNNING,ALLMULTI,SIMPLEX,MULTICAST> mtu 1500
\tinet 192.168.64.1 netmask 0xffffff00 broadcast 192.168.64.255
\tmember: vmenet0 flags=10803<LEARNING,DISCOVER,PRIVATE,CSUM>
\tstatus: active
"""

PORTS = """
Hardware Port: Ethernet
Device: en0
Ethernet Address: d0:11:e5:aa:bb:cc

Hardware Port: Ethernet Adapter (en5)
Device: en5
Ethernet Address: 5e:3d:c3:11:22:34

Hardware Port: Thunderbolt Bridge
Device: bridge0
Ethernet Address: 36:f5:11:22:33:40

Hardware Port: Wi-Fi
Device: en1
Ethernet Address: f4:d4:88:11:22:33

Hardware Port: Thunderbolt 1
Device: en2
Ethernet Address: 36:f5:11:22:33:40

Hardware Port: Thunderbolt 2
Device: en3
Ethernet Address: 36:f5:11:22:33:44

VLAN Configurations
===================
"""

BRIDGE = Interface("bridge0", "Thunderbolt Bridge", Kind.THUNDERBOLT, "192.168.5.1", 30)
ETHERNET = Interface("en0", "Ethernet", Kind.ETHERNET, "192.168.1.23", 24)
WIFI = Interface("en1", "Wi-Fi", Kind.WIFI, "192.168.1.77", 24)


def mac(ifconfig: str = IFCONFIG, ports: str = PORTS) -> str:
    return f"Last login: never\n== ifconfig\n{ifconfig}== ports\n{ports}"


def linux(*devices: object, kinds: str = "") -> str:
    return f"== addresses\n{json.dumps(devices)}\n== kinds\n{kinds}"


def device(name: str, address: str, *flags: str, prefix: int = 24) -> dict[str, object]:
    told = {"family": "inet", "local": address, "prefixlen": prefix, "scope": "global", "label": name}
    flags = flags or ("BROADCAST", "MULTICAST", "UP", "LOWER_UP")
    return {"ifindex": 2, "ifname": name, "flags": flags, "mtu": 1500, "operstate": "UP", "addr_info": [told]}


def test_a_mac_tells_its_bridge_its_ethernet_and_its_wifi() -> None:
    assert set(interfaces_from(mac())) == {BRIDGE, ETHERNET, WIFI}


def test_thunderbolt_ports_may_have_addresses_of_their_own() -> None:
    told = IFCONFIG.replace("\tether 36:f5:11:22:33:44\n", "\tinet 192.168.6.1 netmask 0xfffffffc\n")
    (port,) = set(interfaces_from(mac(told))) - {BRIDGE, ETHERNET, WIFI}
    assert port == Interface("en3", "Thunderbolt 2", Kind.THUNDERBOLT, "192.168.6.1", 30)


@pytest.mark.parametrize(
    ("port", "kind"),
    [
        ("Thunderbolt Ethernet Slot 0", Kind.ETHERNET),
        ("USB 10/100/1000 LAN", Kind.ETHERNET),
        ("Thunderbolt 3", Kind.THUNDERBOLT),
        ("iPhone USB", None),
        ("Bluetooth PAN", None),
    ],
)
def test_a_macs_port_is_known_by_its_name(port: str, kind: Kind | None) -> None:
    found = interfaces_from(mac(ports=PORTS.replace("Port: Ethernet\n", f"Port: {port}\n")))
    assert [each.kind for each in found if each.device == "en0"] == ([] if kind is None else [kind])


def test_a_bridge_that_is_no_port_is_as_slow_as_its_members() -> None:
    renamed = IFCONFIG.replace("bridge0", "bridge1")
    (bridge,) = (each for each in interfaces_from(mac(renamed)) if each.device == "bridge1")
    assert bridge.kind == Kind.THUNDERBOLT
    (bridge,) = (each for each in interfaces_from(mac(renamed.replace("r: en3", "r: en1"))) if each.device == "bridge1")
    assert bridge.kind == Kind.WIFI


def test_without_networksetup_the_devices_names_must_do() -> None:
    found = {each.device: each.kind for each in interfaces_from(mac(ports=""))}
    assert found == {"bridge0": Kind.THUNDERBOLT, "en0": Kind.ETHERNET, "en1": Kind.ETHERNET}


def test_linux_tells_kinds_by_drivers() -> None:
    told = linux(
        device("lo", "127.0.0.1", "LOOPBACK", "UP", prefix=8),
        device("enp3s0", "192.168.1.5"),
        device("thunderbolt0", "192.168.5.2", prefix=30),
        device("net7", "192.168.6.2", prefix=30),
        device("wlp2s0", "192.168.1.6"),
        device("br0", "192.168.9.6"),
        kinds="br0 - enp9s0 radio\nenp3s0 e1000e\nlo -\nnet7 thunderbolt-net\nradio wifi\nwlp2s0 wifi\n",
    )
    found = {each.device: (each.kind, each.address, each.prefix) for each in interfaces_from(told)}
    assert found == {
        "enp3s0": (Kind.ETHERNET, "192.168.1.5", 24),
        "thunderbolt0": (Kind.THUNDERBOLT, "192.168.5.2", 30),
        "net7": (Kind.THUNDERBOLT, "192.168.6.2", 30),
        "wlp2s0": (Kind.WIFI, "192.168.1.6", 24),
        "br0": (Kind.WIFI, "192.168.9.6", 24),
    }


@pytest.mark.parametrize(
    "name", ["docker0", "br-0a1b2c3d4e5f", "virbr0", "veth12ab", "tailscale0", "wg0", "zt7nnig26", "tun0", "cni0"]
)
def test_what_leads_to_no_other_machine_is_left_out(name: str) -> None:
    assert interfaces_from(linux(device(name, "172.17.0.1"))) == ()


def test_tunnels_and_devices_that_are_down_are_left_out() -> None:
    assert interfaces_from(linux(device("ppp0", "10.0.0.1", "UP", "POINTOPOINT"))) == ()
    assert interfaces_from(linux(device("eth0", "10.0.0.1", "BROADCAST"))) == ()
    assert interfaces_from(linux(device("eth0", "10.0.0.1", prefix=32))) == ()


@pytest.mark.parametrize(
    "output", ["", "bash: ip: command not found", "== addresses\n== kinds\n", "== addresses\nusage"]
)
def test_an_answer_that_tells_nothing_is_an_error(output: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        interfaces_from(output)
