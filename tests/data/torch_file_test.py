import mmap
import os
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_misa.data._torch_file import load

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def integer(number):
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)


def storage(key="0", kind="FloatStorage", count=6, view=b"N"):
    return (
        b"(("
        + text("storage")
        + b"ctorch\n"
        + kind.encode()
        + b"\n"
        + text(key)
        + text("cpu")
        + integer(count)
        + view
        + b"tQ"
    )


def tensor(size=(2, 3), stride=(3, 1), offset=0, **kwargs):
    """The pickle opcodes of one tensor, written by hand."""
    sizes = b"".join(b"(" + b"".join(map(integer, numbers)) + b"t" for numbers in (size, stride))
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + storage(**kwargs) + integer(offset) + sizes + b"\x89NtR"


def write_legacy(path, value, storages, keys=None):
    """A legacy file: pickled `value`, then `storages`, dict of key -> (count, bytes)."""
    header = [MAGIC_NUMBER, 1001, {"little_endian": True}]
    stored = b"".join(struct.pack("<q", count) + data for count, data in storages.values())
    path.write_bytes(
        b"".join(pickle.dumps(part, 2) for part in header)
        + b"\x80\x02"
        + value
        + b"."
        + pickle.dumps(list(storages) if keys is None else keys, 2)
        + stored
    )
    return path


def write_zip(path, value, storages, **records):
    """A zip file of the same."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + value + b".")
        for name, data in records.items():
            archive.writestr(f"model/{name}", data)
        for key, (_, data) in storages.items():
            archive.writestr(f"model/data/{key}", data)
    return path


NUMBERS = np.arange(6, dtype="<f4")
STORAGES = {"0": (6, NUMBERS.tobytes())}


@pytest.mark.parametrize("write", [write_legacy, write_zip])
def test_a_tensor(write, tmp_path):
    received = load(write(tmp_path / "a.pt", tensor(), STORAGES))
    assert type(received) is np.ndarray
    assert received.dtype == np.float32
    np.testing.assert_array_equal(received, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("write", [write_legacy, write_zip])
def test_views_share_their_storage(write, tmp_path):
    views = (
        tensor(size=(3, 2), stride=(1, 3)) + tensor(size=(), stride=(), offset=5) + tensor(size=(0, 9), stride=(9, 1))
    )
    turned, last, empty = load(write(tmp_path / "a.pt", b"(" + views + b"t", STORAGES))
    np.testing.assert_array_equal(turned, NUMBERS.reshape(2, 3).T)
    assert last.shape == ()
    assert last == 5.0
    assert empty.shape == (0, 9)
    turned[2, 1] = 7
    assert last == 7.0


def test_big_endian_zip(tmp_path):
    path = write_zip(tmp_path / "a.pt", tensor(), {"0": (6, NUMBERS.astype(">f4").tobytes())}, byteorder=b"big")
    np.testing.assert_array_equal(load(path), NUMBERS.reshape(2, 3))


def test_extra_globals_are_strings(tmp_path):
    path = write_legacy(tmp_path / "a.pt", b"ccreate_dataset\nreturn_unk\n", {})
    with pytest.raises(ValueError, match=r"create_dataset\.return_unk"):
        load(path)
    assert load(path, extra_globals=["create_dataset.return_unk"]) == "create_dataset.return_unk"


BOTH = {
    "past the end": (tensor(size=(7,), stride=(1,)), "leaves its storage"),
    "offset past the end": (tensor(offset=1), "leaves its storage"),
    "before the start": (tensor(offset=-1), "describes a tensor"),
    "negative stride": (tensor(size=(2,), stride=(-1,), offset=3), "describes a tensor"),
    "negative size": (tensor(size=(-2, -3)), "describes a tensor"),
    "a stride that overflows": (tensor(size=(5,), stride=(2**60,)), "leaves its storage"),
    "fewer strides": (tensor(stride=(1,)), "argument 2 is shorter"),
    "a huge storage": (tensor(count=2**50), "which the file cannot hold"),
    "a negative storage": (tensor(count=-1), "which the file cannot hold"),
    "view of a storage": (storage(view=b"(" + text("1") + b"K\x00K\x01t"), "something other than a whole storage"),
    "bfloat16": (tensor(kind="BFloat16Storage"), r"asks for `torch\.BFloat16Storage`"),
    "no storage": (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89NtR", "no attribute"),
    "module": (b"ctorch.nn.modules.linear\nLinear\n)\x81", r"torch\.nn\.modules\.linear\.Linear"),
}


@pytest.mark.parametrize("write", [write_legacy, write_zip])
@pytest.mark.parametrize("name", BOTH)
def test_wrong_tensors(name, write, tmp_path):
    value, message = BOTH[name]
    with pytest.raises(ValueError, match=message) as error:
        load(write(tmp_path / "a.pt", value, STORAGES))
    assert str(tmp_path / "a.pt") in str(error.value)


def test_numpy_integers_cannot_overflow_the_check(tmp_path):
    code = b"cnumpy\ndtype\n(" + text("i8") + b"K\x00K\x01tR"
    stride = b"cnumpy.core.multiarray\nscalar\n(" + code + b"C\x08" + struct.pack("<q", 2**62) + b"tR"
    value = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage() + b"K\x00K\x05\x85" + stride + b"\x85\x89NtR"
    with pytest.raises(ValueError, match="describes a tensor"):
        load(write_legacy(tmp_path / "a.pt", value, STORAGES))


def test_an_array_is_no_storage(tmp_path):
    value = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pickle.dumps(np.ones(2), 2)[2:-1] + b"K\x00))\x89NtR"
    with pytest.raises(ValueError, match="describes a tensor"):
        load(write_legacy(tmp_path / "a.pt", value, {}))


def test_damaged_legacy_files(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(np.ones(2)))
    with pytest.raises(ValueError, match=r"a\.pt` is not a PyTorch file. Received: a pickle"):
        load(path)
    with pytest.raises(ValueError, match=r"expected the storages \['0'\]. Received: \[\]"):
        load(write_legacy(path, tensor(), {}))
    with pytest.raises(ValueError, match=r"Received: \['0', '0'\]"):
        load(write_legacy(path, tensor(), STORAGES, keys=["0", "0"]))
    with pytest.raises(ValueError, match=r"expected 24 bytes in storage '0'. Received: 5 numbers"):
        load(write_legacy(path, tensor(), {"0": (5, NUMBERS[:5].tobytes())}))
    with pytest.raises(ValueError, match=r"expected 24 bytes in storage '0'"):
        load(write_legacy(path, tensor(), {"0": (2**62, NUMBERS.tobytes())}))
    whole = write_legacy(path, tensor(), STORAGES).read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"a\.pt"):
            load(path)


def test_damaged_zip_files(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(ValueError, match=r"expected 24 bytes in storage '0'\. Received: no such storage"):
        load(write_zip(path, tensor(), {}))
    with pytest.raises(ValueError, match=r"expected 24 bytes in storage '0'. Received: 20"):
        load(write_zip(path, tensor(), {"0": (5, NUMBERS[:5].tobytes())}))
    whole = write_zip(path, tensor(), STORAGES).read_bytes()
    for cut in range(0, len(whole), 29):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"a\.pt"):
            load(path)
    path.write_bytes(whole.replace(NUMBERS.tobytes(), NUMBERS[::-1].tobytes()))
    with pytest.raises(ValueError, match="'model/data/0' with a wrong size or checksum"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("table.csv", "a,b")
    with pytest.raises(ValueError, match=r"is not a PyTorch file.*table\.csv"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.pt")


def test_what_is_compressed_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + b"0" * 10**8)
    with pytest.raises(ValueError, match=r"bomb\.pt.*neither compressed nor encrypted.*'model/data\.pkl'"):
        load(path)


@pytest.mark.parametrize("write", [write_legacy, write_zip])
def test_arrays_are_the_files_until_they_are_written_to(write, tmp_path):
    path = write(tmp_path / "a.pt", tensor(), STORAGES)
    before = path.read_bytes()
    received = load(path)
    base = received
    while isinstance(getattr(base, "base", None), np.ndarray):
        base = base.base
    assert isinstance(getattr(base, "base", base), mmap.mmap)
    received += 1
    np.testing.assert_array_equal(received, [[1, 2, 3], [4, 5, 6]])
    assert path.read_bytes() == before
    np.testing.assert_array_equal(load(path), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("write", [write_legacy, write_zip])
def test_programs_are_neither_run_nor_read(write, tmp_path):
    canary = tmp_path / "canary"
    command = text(f"touch {canary}")
    programs = [
        b"cposix\nsystem\n" + command + b"\x85R",
        b"(" + tensor() + b"(cos\nsystem\n" + command + b"ot",
        b"ctorch._utils\n_rebuild_parameter\n(cos\nsystem\n" + command + b"\x85RtR",
        b"ctorch\nos.system\n" + command + b"\x85R",
        b"ctorch\nload\n" + command + b"\x85R",
    ]
    for program in programs:
        with pytest.raises(ValueError, match="has not been executed"):
            load(write(tmp_path / "a.pt", program, STORAGES))
    header = tmp_path / "header.pt"
    header.write_bytes(b"cposix\nsystem\n" + command + b"\x85R.")
    with pytest.raises(ValueError, match="has not been executed"):
        load(header)
    assert not canary.exists()
    pickle.loads(header.read_bytes())
    assert canary.exists()  # Such programs do run where they are let.


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", exc_type=ImportError)


TORCH_DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]


@pytest.mark.parametrize("is_zip", [False, True])
@pytest.mark.parametrize("dtype", [*TORCH_DTYPES, "uint16", "uint32", "uint64"])
def test_files_of_pytorch(torch, dtype, is_zip, tmp_path):
    expected = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    value = {"weight": torch.from_numpy(expected.copy())}
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
    received = load(tmp_path / "a.pt")["weight"]
    assert received.dtype == expected.dtype
    np.testing.assert_array_equal(received, expected)


@settings(deadline=None, max_examples=25)
@given(
    arrays=st.lists(
        st.sampled_from(TORCH_DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0))),
        max_size=3,
    ),
    is_zip=st.booleans(),
)
def test_tensors_of_any_shape(torch, tmp_path_factory, arrays, is_zip):
    path = tmp_path_factory.mktemp("any") / "a.pt"
    tensors = [torch.from_numpy(np.array(array)) for array in arrays]
    torch.save(
        tensors + [tensor.T for tensor in tensors[:1] if tensor.ndim == 2], path, _use_new_zipfile_serialization=is_zip
    )
    expected = arrays + [array.T for array in arrays[:1] if array.ndim == 2]
    for received, array in zip(load(path), expected, strict=True):
        assert received.dtype == array.dtype
        np.testing.assert_array_equal(received, array)


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_state_dict_of_pytorch(torch, is_zip, tmp_path):
    model = torch.nn.Sequential(torch.nn.LSTM(3, 2, bidirectional=True), torch.nn.Linear(4, 1))
    path = tmp_path / "model.std"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=is_zip)
    received = load(path)
    assert list(received) == list(model.state_dict())
    for name, expected in model.state_dict().items():
        np.testing.assert_array_equal(received[name], expected.numpy())
    parameters = {"p": model[1].weight, "size": model[1].weight.shape, "step": np.float64(1.5)}
    torch.save(parameters, path, _use_new_zipfile_serialization=is_zip)
    received = load(path)
    np.testing.assert_array_equal(received["p"], model[1].weight.detach().numpy())
    assert received["size"] == (1, 4)
    assert received["step"] == 1.5
    torch.save(model, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.container\.Sequential"):
        load(path)


def test_the_authors_table():
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    path = pathlib.Path(folder) / "data/cmu_mosi/reference_splits/embedding_and_mapping.pt"
    vectors, words = load(path, extra_globals=["create_dataset.return_unk"])
    data = path.read_bytes()[-2729 * 300 * 4 :]  # The only storage ends the file.
    np.testing.assert_array_equal(vectors, np.frombuffer(data, "<f4").reshape(2729, 300))
    assert sorted(words.values()) == list(range(2729))
