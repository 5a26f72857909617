import collections
import contextlib
import io
import pathlib
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_misa.data._restricted_unpickler import load_pickle, read_pickle

DTYPES = ["<f2", "<f4", ">f4", "<f8", "<i8", ">i2", "|u1", "|b1", "<c8", "<U3", "|S4"]


def unpickle(data, **kwargs):
    return load_pickle(io.BytesIO(data), "some.pkl", **kwargs)


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


@settings(deadline=None, max_examples=60)
@given(
    array=st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0))),
    protocol=st.integers(0, 5),
    order=st.sampled_from("CFT"),
)
def test_arrays_are_what_pickle_makes_of_them(array, protocol, order):
    array = np.asarray(array)
    array = array.T if order == "T" else np.array(array, order=order)
    data = pickle.dumps(array, protocol)
    received, expected = unpickle(data), pickle.loads(data)
    np.testing.assert_array_equal(received, array)
    assert received.dtype == expected.dtype  # NumPy itself makes some arrays native.
    assert received.tobytes() == expected.tobytes()
    assert received.flags.f_contiguous == expected.flags.f_contiguous


@pytest.mark.parametrize("protocol", range(6))
def test_axis_order_of_protocol_5_is_kept(protocol):
    array = np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)
    np.testing.assert_array_equal(unpickle(pickle.dumps(array, protocol)), array)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()


@settings(deadline=None, max_examples=60)
@given(
    value=st.recursive(
        LEAVES,
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    ),
    protocol=st.integers(0, 5),
)
def test_containers_are_what_pickle_makes_of_them(value, protocol):
    received = unpickle(pickle.dumps(value, protocol))
    assert received == value
    assert repr(received) == repr(value)  # 1 == 1.0 == True.


@pytest.mark.parametrize("protocol", range(6))
def test_other_values(protocol):
    objects = np.array([[1], "two", None, np.ones(2)], dtype=object)
    ordered = collections.OrderedDict(b=1, a=2)
    value = [objects, ordered, {1, 2}, np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("é"), objects]
    received = unpickle(pickle.dumps(value, protocol))
    assert received[0] is received[-1]
    assert received[0].shape == (4,)
    assert received[0].tolist()[:3] == [[1], "two", None]
    assert received[0][3].tolist() == [1.0, 1.0]
    assert received[1:-1] == value[1:-1]
    assert [type(item) for item in received[1:-1]] == [type(item) for item in value[1:-1]]


def test_a_defaultdict_becomes_a_dict():
    received = unpickle(pickle.dumps(collections.defaultdict(list, a=[1])))
    assert type(received) is dict
    assert received == {"a": [1]}


def test_arrays_become_ordinary():
    received = unpickle(pickle.dumps(np.ones(2)))
    assert isinstance(received, np.ndarray)
    assert type(np.asarray(received)) is np.ndarray
    np.array(received)[0] = 5  # A copy can be written.


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("protocol", range(6))
def test_object_arrays_keep_their_places(protocol, order):
    array = np.array([[1, "two", None], [4.0, (5,), "six"]], dtype=object, order=order)
    assert unpickle(pickle.dumps(array, protocol)).tolist() == [[1, "two", None], [4.0, (5,), "six"]]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_file_is_in_memory_once(protocol, tmp_path):
    path = tmp_path / "arrays.pkl"
    arrays = [np.full((10, 100, 100), number, dtype) for number, dtype in enumerate(["<f8", "<f4", "<f8", "<i2"])]
    path.write_bytes(pickle.dumps({"a": arrays, "f": np.asfortranarray(arrays[0])}, protocol))
    tracemalloc.start()
    received = read_pickle(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * path.stat().st_size
    for array, expected in zip(received["a"], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("count", [1, 1000])
def test_arrays_that_share_bytes_cannot_change_them(count):
    """Once as an array's bytes, once as another's and once as bytes, which nothing may change."""
    data = np.arange(count, dtype="<f8").tobytes()
    stored = b"B" + struct.pack("<I", len(data)) + data + b"q\x07"
    state = b"(K\x01(M" + struct.pack("<H", count) + b"t" + DTYPE + b"\x89"
    first, second, shared = unpickle(
        b"\x80\x03(" + ARRAY + state + stored + b"tb" + ARRAY + state + b"h\x07tb" + b"h\x07t."
    )
    assert shared == data
    np.testing.assert_array_equal(second, np.arange(count))
    for array in (first, first.view(np.ndarray), np.asarray(first)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7.0


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_are_read_only(protocol):
    for array in (np.ones(2), np.ones(2000), np.array([None, 1]), np.ones((30, 40)).T):
        with pytest.raises(ValueError, match="read-only"):
            unpickle(pickle.dumps(array, protocol))[0] = 5


def test_python_2():
    # `cPickle.dumps(numpy.arange(2, dtype="<i2"), 2)` and a str, as Python 2 and NumPy 1 wrote them.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x02tcnumpy\ndtype\n"
        b"(U\x02i2K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x00\x00\xff\x00tb"
    )
    received = unpickle(b"\x80\x02(" + array + b"U\x02\xe9!t.")
    np.testing.assert_array_equal(received[0], [0, 255])
    assert received[1] == "é!"


def test_a_file_and_its_errors(tmp_path):
    path = tmp_path / "rows.pkl"
    path.write_bytes(pickle.dumps({"a": np.arange(3000)}))
    np.testing.assert_array_equal(read_pickle(path)["a"], np.arange(3000))
    with pytest.raises(FileNotFoundError, match=r"missing\.pkl"):
        read_pickle(tmp_path / "missing.pkl")


@settings(deadline=None, max_examples=100)
@given(cut=st.integers(0, 10_000), protocol=st.integers(0, 5))
def test_truncated_files_are_refused(cut, protocol):
    whole = pickle.dumps([np.arange(20.0), {"a": ("b", None)}], protocol)
    cut %= len(whole)
    with pytest.raises(ValueError, match=rf"Cannot read `some\.pkl`.* Received: {cut} bytes that fail after byte \d+"):
        unpickle(whole[:cut])


def claims_much_memory(data):
    """Whether the unpickler would make a table of a size that the file names: slow, and no concern of ours."""
    with contextlib.suppress(Exception):
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument) < 10_000:
                return True
    return False


@settings(deadline=None, max_examples=200)
@given(where=st.integers(0, 10_000), byte=st.integers(0, 255), protocol=st.integers(0, 4))
def test_damaged_files_give_a_value_or_one_kind_of_error(where, byte, protocol):
    data = bytearray(pickle.dumps([np.arange(4.0), np.array(["x", None]), np.float32(1), {"a": {1}}], protocol))
    data[where % len(data)] = byte
    assume(not claims_much_memory(data))
    try:
        unpickle(bytes(data))
    except ValueError as error:
        message = str(error)
    else:
        return
    assert "Cannot read `some.pkl`" in message


class Reduce:
    """Pickles to a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def touch(path):
    """Python code that makes the canary file."""
    return f"open({str(path)!r}, 'w').close()"


def hostile_pickles(canary):
    """Name -> (pickle, the global that it names)."""
    system = f"touch {canary}"

    def call(module, name):  # By STACK_GLOBAL, which takes dotted names.
        return b"\x80\x04" + text(module) + text(name) + b"\x93" + text(system) + b"\x85R."

    nested = pickle.dumps(Reduce(exec, touch(canary)))
    return {
        "os.system": (b"cos\nsystem\n" + text(system) + b"\x85R.", "os.system"),
        "inst": (b"(" + text(system) + b"ios\nsystem\n.", "os.system"),
        "obj": (b"(cos\nsystem\n" + text(system) + b"o.", "os.system"),
        "new": (b"\x80\x04cos\nsystem\n" + text(system) + b"\x85\x81.", "os.system"),
        "posix.system": (call("posix", "system"), "posix.system"),
        "eval": (pickle.dumps(Reduce(eval, touch(canary))), "builtins.eval"),
        "python 2": (b"c__builtin__\neval\n" + text(touch(canary)) + b"\x85R.", "__builtin__.eval"),
        "exec in a list": (pickle.dumps([np.ones(2), {"a": Reduce(exec, touch(canary))}]), "builtins.exec"),
        "getattr": (pickle.dumps(Reduce(getattr, "a", "upper")), "builtins.getattr"),
        "dotted": (call("shutil", "os.system"), "shutil.os.system"),
        "dotted numpy": (call("numpy", "f2py.os.system"), "numpy.f2py.os.system"),
        "dotted allowed": (call("collections", "OrderedDict.fromkeys"), "collections.OrderedDict.fromkeys"),
        "dotted class": (call("numpy", "ndarray.tofile"), "numpy.ndarray.tofile"),
        "numpy.load": (call("numpy", "load"), "numpy.load"),
        "pickle.loads": (pickle.dumps(Reduce(pickle.loads, nested)), "_pickle.loads"),
        "path": (pickle.dumps(pathlib.PurePosixPath("a")), "pathlib.PurePosixPath"),
        "masked array": (pickle.dumps(np.ma.ones(2)), "numpy.ma"),
    }


@pytest.mark.parametrize("name", hostile_pickles("x"))
def test_programs_are_neither_run_nor_read(name, tmp_path):
    canary = tmp_path / "canary"
    data, forbidden = hostile_pickles(canary)[name]
    path = tmp_path / "hostile.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="has not been executed") as error:
        read_pickle(path)
    assert str(path) in str(error.value)
    assert f"`{forbidden}" in str(error.value)
    assert not canary.exists()


def test_the_canary_sings(tmp_path):
    """The test above would notice: plain unpickling runs the same programs."""
    canary = tmp_path / "canary"
    for name in ("os.system", "inst", "obj", "posix.system", "eval", "exec in a list", "dotted", "pickle.loads"):
        pickle.loads(hostile_pickles(canary)[name][0])
        assert canary.exists(), name
        canary.unlink()


def test_numpy_scalars_do_not_unpickle_again(tmp_path):
    canary = tmp_path / "canary"
    dtype = b"cnumpy\ndtype\n(" + text("O8") + b"K\x00K\x01tR"
    inner = pickle.dumps(Reduce(exec, touch(canary)))
    payload = b"cnumpy.core.multiarray\nscalar\n(" + dtype + b"B" + struct.pack("<I", len(inner)) + inner + b"tR."
    with pytest.raises(ValueError, match="object array from something other than a list"):
        unpickle(b"\x80\x03" + payload)
    assert not canary.exists()


DTYPE = b"cnumpy\ndtype\n(" + text("f8") + b"K\x00K\x01tR"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"


@pytest.mark.parametrize(
    ("data", "message"),
    {
        # NumPy's own dtype accepts the flag that makes numbers object pointers.
        "dtype with fields": (DTYPE + b"(K\x03" + text("<") + b"N(" + text("a") + b"t}K\x08K\x08K\x3ftb", "structured"),
        "dtype state of the wrong length": (DTYPE + b"(K\x03tb", "not enough values"),
        "structured dtype": (pickle.dumps(np.zeros(2, [("a", "O")]))[:-1], "dtype 'V8'"),
        "date": (pickle.dumps(np.zeros(2, "M8[s]"))[:-1], "dtype 'M8'"),
        "dtype from a non-string": (b"cnumpy\ndtype\n(K\x05tR", "expected string"),
        "short data": (ARRAY + b"(K\x01(K\x02t" + DTYPE + b"\x89C\x08AAAAAAAAtb", "cannot reshape"),
        "long data": (ARRAY + b"(K\x01(K\x01t" + DTYPE + b"\x89C\x10AAAAAAAAAAAAAAAAtb", "cannot reshape"),
        "objects that are too few": (
            ARRAY + b"(K\x01(K\x05tcnumpy\ndtype\n(" + text("O8") + b"K\x00K\x01tR\x89](K\x01etb",
            "cannot reshape",
        ),
        "an array as another's bytes": (ARRAY + b"(K\x01(K\x05t" + DTYPE + b"\x89" + ARRAY + b"tb", "other than bytes"),
        "no dtype": (ARRAY + b"(K\x01(K\x05tN\x89C\x08AAAAAAAAtb", "without a dtype"),
        "attributes of a function": (
            b"cnumpy.core.multiarray\nscalar\n(N}" + text("__defaults__") + b"K\x01stb",
            "changes a function",
        ),
        "attributes of a class": (b"cnumpy\nndarray\n(N}" + text("x") + b"K\x01stb", "no attribute"),
        "subclassing": (b"ccollections\nOrderedDict\n)\x81", "must be a type|argument"),
        "factory called": (b"c__builtin__\nint\n)R", "not callable"),
        "persistent id": (b"K\x01Q", "outside the file"),
        "other codec": (b"c_codecs\nencode\n(" + text("a") + text("rot13") + b"tR", "encoding 'rot13'"),
        "memo": (b"h\x09", "Memo value not found"),
        "no pickle": (b"id,text,label", "fail after byte"),
    }.values(),
)
def test_tricks_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        unpickle(data + b".")


def test_flags_of_a_dtype_are_not_believed():
    """State that turns float64 into object pointers in NumPy is ignored, and the numbers are numbers."""
    state = b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
    received = unpickle(ARRAY + b"(K\x01(K\x01t" + DTYPE + state + b"\x89C\x08AAAAAAAAtb.")
    assert received.dtype == np.float64
    assert not received.dtype.hasobject
    np.testing.assert_array_equal(received, struct.unpack("<d", b"A" * 8))


def test_extra_globals_and_persistent_ids():
    data = b"\x80\x02(cauthors\nmake\n(K\x02tRcauthors\nname\nX\x01\x00\x00\x00kQt."
    extra = {"authors.make": lambda n: [0] * n, "authors.name": "inert"}
    assert unpickle(data, extra_globals=extra, persistent_load=str.upper) == ([0, 0], "inert", "K")
    with pytest.raises(ValueError, match=r"authors\.make"):
        unpickle(data)


def test_one_pickle_after_the_other(tmp_path):
    path = tmp_path / "two.pkl"
    path.write_bytes(pickle.dumps([1] * 100) + pickle.dumps("second", 2) + b"rest")
    with path.open("rb") as file:
        assert load_pickle(file, path) == [1] * 100
        assert load_pickle(file, path) == "second"
        assert file.read() == b"rest"


def nested(levels, width, item):
    for _ in range(levels):
        item = [item] * width
    return item


@pytest.mark.parametrize(
    "bomb",
    [
        nested(12, 10, 1.0),
        nested(30, 2, "a"),
        {"a": nested(1, 50_000, nested(1, 50_000, 1.0))},
        nested(2, 5000, np.ones(50)),
    ],
)
def test_what_would_be_endless_if_written_out_is_refused(bomb):
    with pytest.raises(ValueError, match=r"containers hold one another so often that they have .* items"):
        unpickle(pickle.dumps(bomb))


def test_what_holds_itself_is_refused():
    endless = [1]
    endless.append({"again": (endless,)})
    with pytest.raises(ValueError, match="a container that holds itself"):
        unpickle(pickle.dumps(endless))


def test_containers_may_be_shared():
    words, array = ["good", "movie"], np.arange(3.0)
    rows = {"a": [words, (words, [words])], "b": [array, array, np.array([words, None], dtype=object)]}
    received = unpickle(pickle.dumps(rows))
    assert received["a"] == rows["a"]
    assert received["a"][0] is received["a"][1][0]
    np.testing.assert_array_equal(received["b"][1], array)
