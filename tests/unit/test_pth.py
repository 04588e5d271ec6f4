"""The .pth reader takes tensors in both layouts and refuses everything else by name."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from hwsim.core.errors import InputError
from hwsim.nets.pth import LEGACY_MAGIC, LEGACY_PROTOCOL, read_pth


@pytest.fixture
def fake_torch(monkeypatch):
    """A module tree with torch's names, so that the standard pickler writes the globals that torch.save writes."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch._utils = utils
    for name in ("FloatStorage", "LongStorage", "HalfStorage", "BFloat16Storage"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))

    def _rebuild_tensor_v2(*args):
        raise AssertionError("never called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


class Storage:
    def __init__(self, kind, key, data):
        self.kind, self.key, self.data = kind, key, data


class Tensor:
    """Pickles as torch tensors do."""

    def __init__(self, torch, storage, size, stride, offset=0):
        self.parts = (
            torch._utils._rebuild_tensor_v2,
            (storage, offset, size, stride, False, collections.OrderedDict()),
        )

    def __reduce__(self):
        return self.parts


def dump(value, legacy=False, protocol=2):
    out = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, Storage):
                base = ("storage", obj.kind, obj.key, "cpu", obj.data.size)
                return (*base, None) if legacy else base
            return None

    Pickler(out, protocol).dump(value)
    return out.getvalue()


def write_zip(path, value, storages, compression=zipfile.ZIP_STORED, protocol=2):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", dump(value, protocol=protocol))
        archive.writestr("archive/version", "3\n")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.data.tobytes())
    return path


def write_legacy(path, value, storages):
    info = {"protocol_version": LEGACY_PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (LEGACY_MAGIC, LEGACY_PROTOCOL, info)]
    parts += [dump(value, legacy=True), pickle.dumps([storage.key for storage in storages], 2)]
    for storage in storages:
        parts += [struct.pack("<q", storage.data.size), storage.data.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def make_state(torch):
    rng = np.random.default_rng(1)
    data = rng.standard_normal(24).astype("<f4")
    weight = Storage(torch.FloatStorage, "0", data)
    count = Storage(torch.LongStorage, "1", np.array([17], "<i8"))
    half = Storage(torch.HalfStorage, "2", data.astype("<f2"))
    brain = Storage(torch.BFloat16Storage, "3", (data.view("<u4") >> 16).astype("<u2"))
    state = collections.OrderedDict()
    state["conv.weight"] = Tensor(torch, weight, (2, 3, 2, 2), (12, 4, 2, 1))
    state["view"] = Tensor(torch, weight, (4, 2), (1, 4), offset=3)
    state["count"] = Tensor(torch, count, (), ())
    state["half"] = Tensor(torch, half, (24,), (1,))
    state["brain"] = Tensor(torch, brain, (24,), (1,))
    return state, [weight, count, half, brain], data


@pytest.mark.parametrize("layout", ["zip", "legacy", "zip, protocol 4"])
def test_tensors_come_back_as_they_were(tmp_path, fake_torch, layout):
    state, storages, data = make_state(fake_torch)
    path = tmp_path / "m.pth"
    if layout == "legacy":
        write_legacy(path, state, storages)
    else:
        write_zip(path, state, storages, protocol=4 if "4" in layout else 2)
    found = read_pth(path)
    assert list(found) == ["conv.weight", "view", "count", "half", "brain"]
    np.testing.assert_array_equal(found["conv.weight"], data.reshape(2, 3, 2, 2))
    np.testing.assert_array_equal(found["view"], data[3:11].reshape(2, 4).T)
    assert found["count"].shape == ()
    assert found["count"] == 17
    np.testing.assert_array_equal(found["half"], data.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(found["brain"], data, rtol=2**-7)
    assert found["brain"].dtype == np.float32


def test_checkpoint_is_unwrapped(tmp_path, fake_torch):
    state, storages, _ = make_state(fake_torch)
    wrapped = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}
    assert next(iter(read_pth(write_zip(tmp_path / "m.pth", wrapped, storages)))) == "conv.weight"


class Evil:
    def __init__(self, call, *args):
        self.parts = (call, args)

    def __reduce__(self):
        return self.parts


def hostile_values():
    return {
        "posix.system": Evil(os.system, "touch /tmp/hwsim_was_here"),
        "__builtin__.eval": Evil(eval, "1/0"),
        "__builtin__.getattr": Evil(getattr, "x", "upper"),
        "collections.deque": collections.deque([1]),
    }


@pytest.mark.parametrize("name", sorted(hostile_values()))
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_foreign_globals_are_refused_by_name(tmp_path, name, layout):
    value = {"w": hostile_values()[name]}
    write = write_zip if layout == "zip" else write_legacy
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_pth(write(tmp_path / "m.pth", value, []))


def test_nothing_was_run(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(InputError, match="system"):
        read_pth(write_zip(tmp_path / "m.pth", {"w": Evil(os.system, f"touch {mark}")}, []))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((100,), (1,), 0),
        ((2, 12), (12, 2), 0),
        ((24,), (1,), 1),
        ((1 << 40,), (0,), 0),
        ((2,), (-1,), 3),
        ((2,), (1,), -1),
    ],
)
def test_geometry_beyond_the_storage_is_refused(tmp_path, fake_torch, size, stride, offset):
    storage = Storage(fake_torch.FloatStorage, "0", np.zeros(24, "<f4"))
    path = write_zip(tmp_path / "m.pth", {"w": Tensor(fake_torch, storage, size, stride, offset)}, [storage])
    with pytest.raises(InputError, match=r"beyond its storage|odd geometry"):
        read_pth(path)


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """BUILD on a global would set attributes of the function in an ordinary unpickler."""
    code = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x04\x00\x00\x00codeK\x01s\x86b."
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        archive.writestr("a/data.pkl", code)
    with pytest.raises(InputError, match="a change of 'code'"):
        read_pth(tmp_path / "m.pth")


def test_opcodes_that_allocate_ahead_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".")
    with pytest.raises(InputError, match="damaged"):
        read_pth(tmp_path / "m.pth")


def test_compressed_members_are_refused(tmp_path, fake_torch):
    storage = Storage(fake_torch.FloatStorage, "0", np.zeros(1 << 16, "<f4"))
    value = {"w": Tensor(fake_torch, storage, (1 << 16,), (1,))}
    with pytest.raises(InputError, match="compressed"):
        read_pth(write_zip(tmp_path / "m.pth", value, [storage], zipfile.ZIP_DEFLATED))


def test_damage_gives_one_clear_line(tmp_path, fake_torch):
    state, storages, _ = make_state(fake_torch)
    rng = np.random.default_rng(5)
    messages = []
    for write in (write_zip, write_legacy):
        data = write(tmp_path / "m.pth", state, storages).read_bytes()
        for _ in range(200):
            broken = bytearray(data)
            if rng.random() < 0.4:
                del broken[int(rng.integers(0, len(broken))) :]
            else:
                broken[int(rng.integers(0, len(broken)))] = int(rng.integers(0, 256))
            (tmp_path / "b.pth").write_bytes(bytes(broken))
            try:
                read_pth(tmp_path / "b.pth")
            except InputError as error:
                messages.append(str(error))
    assert len(messages) > 100
    assert not [message for message in messages if "\n" in message]


def test_absent_and_empty_files(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_pth(tmp_path / "no.pth")
    (tmp_path / "e.pth").write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        read_pth(tmp_path / "e.pth")
