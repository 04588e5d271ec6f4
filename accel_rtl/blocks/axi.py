"""AXI4 as the accelerators speak it: master signatures, port names that tools infer, and what drives an address channel.

What is used of AXI4 (ARM IHI 0022): INCR bursts of 1 to 256 whole beats that never cross 4 KiB, one ID (so no ID signals: data
and answers come in the order of the requests), normal non-cacheable memory, bufferable or not (AxCACHE), unprivileged secure
data (AxPROT 0). AxUSER carries the beats of a whole transfer on its first burst and 0 on the others. Reads and writes are
signatures of their own: the load unit owns AR and R, the store unit AW, W and B of one interface.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

INCR = 1
"""AxBURST (IHI 0022, table A3-3)."""
CACHE = 0b0011
"""AxCACHE: normal, non-cacheable, bufferable: a write may be answered once it is accepted (IHI 0022, table A4-5)."""
CACHE_WRITTEN = 0b0010
"""AxCACHE of writes that are answered once they are in the memory: not bufferable."""
PAGE_BYTES = 4096
"""A burst must not cross this boundary (IHI 0022, section A3.4.1)."""
MOST_BEATS = 256
"""Longest INCR burst (IHI 0022, section A3.4.1)."""
BEAT_BITS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Widths of a data bus (IHI 0022, section A1.3.1)."""


def address_members(prefix: str, address_bits: int, user_bits: int) -> dict[str, wiring.Member]:
    """Return the members of an address channel, ``prefix`` being ``ar`` or ``aw``, seen by the master."""
    widths = {
        "addr": address_bits,
        "len": 8,
        "size": 3,
        "burst": 2,
        "cache": 4,
        "prot": 3,
        "user": user_bits,
        "valid": 1,
    }
    return {f"{prefix}{name}": Out(width) for name, width in widths.items()} | {f"{prefix}ready": In(1)}


class AxiReadSignature(wiring.Signature):
    """AR and R of a master without IDs.

    Parameters
    ----------
    address_bits, data_bits, user_bits : int
        Widths of ``araddr`` (bytes), ``rdata`` and ``aruser``.
    """

    def __init__(self, address_bits: int, data_bits: int, user_bits: int) -> None:
        members = address_members("ar", address_bits, user_bits)
        members |= {"rdata": In(data_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1)}
        super().__init__(members)


class AxiWriteSignature(wiring.Signature):
    """AW, W and B of a master without IDs.

    Parameters
    ----------
    address_bits, data_bits, user_bits : int
        Widths of ``awaddr`` (bytes), ``wdata`` and ``awuser``.
    """

    def __init__(self, address_bits: int, data_bits: int, user_bits: int) -> None:
        members = address_members("aw", address_bits, user_bits)
        members |= {"wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1), "wvalid": Out(1)}
        members |= {"wready": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1)}
        super().__init__(members)


def list_axi_ports(prefix: str, interface: Any) -> dict[str, tuple[Value, str]]:
    """Return the signals of an AXI interface by the names from which Vivado infers it, e.g. ``m_axi_araddr``.

    Parameters
    ----------
    prefix : str
        Name of the interface, ``m_axi``.
    interface : wiring.PureInterface
        An interface of `AxiReadSignature` or `AxiWriteSignature` (those of both together make one AXI4 master).

    Returns
    -------
    dict of str to (Value, str)
        The signal and its direction, ``i`` or ``o``, as a top-level port of the master: what `amaranth.back.rtlil.convert`
        takes as ``ports`` once the direction is made a `PortDirection`.
    """
    return {
        f"{prefix}_{path[0]}": (Value.cast(value), "i" if member.flow == In else "o")
        for path, member, value in interface.signature.flatten(interface)
    }


def drive_address(
    interface: Any, prefix: str, *, address: Value, length: Value, user: Value, valid: Value, cache: ValueLike = CACHE
) -> list[Any]:
    """Return the assignments of all outputs of an address channel: INCR bursts of whole beats.

    Parameters
    ----------
    interface : wiring.PureInterface
    prefix : str
        ``ar`` or ``aw``.
    address : Value
        In beats.
    length : Value
        Beats less one.
    user, valid, cache : Value
    """
    data_bits = len(interface.rdata if prefix == "ar" else interface.wdata)
    shift = (data_bits // 8).bit_length() - 1
    values = {
        "addr": address << shift, "len": length, "size": shift, "burst": INCR, "cache": cache, "prot": 0, "user": user,
        "valid": valid,
    }  # fmt: skip
    return [getattr(interface, prefix + name).eq(value) for name, value in values.items()]
