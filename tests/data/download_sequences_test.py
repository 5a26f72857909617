"""Downloading from a server on this machine, which also breaks off, lacks files, and changes them."""

import hashlib
import http.server
import json
import threading

import pytest

from keras_misa.data import download_sequences

NAMES = {
    "CMU_MOSI_TimestampedWords.csd",
    "CMU_MOSI_Visual_Facet_41.csd",
    "CMU_MOSI_COVAREP.csd",
    "CMU_MOSI_Opinion_Labels.csd",
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rsplit("/", 1)[1]
        self.server.asked.append(name)
        if name in self.server.missing:
            self.send_error(404, "Not Found")
            return
        content = self.server.contents[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if name in self.server.cut_off else content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.contents = {name: name.encode() * 200_000 for name in NAMES}  # several blocks each
    server.asked, server.missing, server.cut_off = [], set(), set()
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_arrive_whole_and_are_recorded(server, tmp_path):
    told = []
    paths = download_sequences("cmu_mosi", tmp_path / "csd", server.address, progress=lambda *told_: told.append(told_))
    assert {path.name for path in paths} == NAMES
    record = json.loads((tmp_path / "csd" / "downloads.json").read_text())
    for path in paths:
        content = server.contents[path.name]
        assert path.read_bytes() == content
        assert record[path.name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert record[path.name]["size"] == len(content)
        of_this = [(done, total) for name, done, total in told if name == path.name]
        assert of_this[-1] == (len(content), len(content))
        assert len(of_this) > 1
    assert {path.name for path in (tmp_path / "csd").iterdir()} == NAMES | {"downloads.json"}


def test_what_is_there_is_not_asked_for_again(server, tmp_path):
    download_sequences("cmu_mosi", tmp_path, server.address)
    server.asked.clear()
    download_sequences("cmu_mosi", tmp_path, server.address)
    assert server.asked == []


def test_a_transfer_that_breaks_off_leaves_nothing_and_names_the_place(server, tmp_path):
    server.cut_off = {"CMU_MOSI_COVAREP.csd"}
    with pytest.raises(OSError, match=r"Cannot download .*COVAREP") as error:
        download_sequences("cmu_mosi", tmp_path, server.address)
    assert str(tmp_path / "CMU_MOSI_COVAREP.csd") in str(error.value)
    here = {path.name for path in tmp_path.iterdir()}
    assert "CMU_MOSI_COVAREP.csd" not in here
    assert here <= NAMES | {"downloads.json"}  # no temporary file either
    server.cut_off = set()
    server.asked.clear()
    download_sequences("cmu_mosi", tmp_path, server.address)
    assert "CMU_MOSI_TimestampedWords.csd" not in server.asked  # what had come is kept


def test_a_missing_file_is_told_with_the_servers_reason(server, tmp_path):
    server.missing = {"CMU_MOSI_Opinion_Labels.csd"}
    with pytest.raises(OSError, match=r"Not Found.*labels.*place it as") as error:
        download_sequences("cmu_mosi", tmp_path, server.address)
    assert f"`{tmp_path / 'CMU_MOSI_Opinion_Labels.csd'}`" in str(error.value)


def test_an_unreachable_server_is_told(tmp_path):
    with pytest.raises(OSError, match=r"Cannot download http://127.0.0.1:9/.*TimestampedWords.*place it as"):
        download_sequences("cmu_mosi", tmp_path, "http://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_refused(server, tmp_path):
    download_sequences("cmu_mosi", tmp_path, server.address)
    (tmp_path / "CMU_MOSI_COVAREP.csd").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"CMU_MOSI_COVAREP.*expected the file that was recorded.*Received: 14 bytes"):
        download_sequences("cmu_mosi", tmp_path, server.address)


def test_a_server_whose_file_has_changed_is_refused(server, tmp_path):
    download_sequences("cmu_mosi", tmp_path, server.address)
    (tmp_path / "CMU_MOSI_COVAREP.csd").unlink()
    server.contents["CMU_MOSI_COVAREP.csd"] = b"another file"
    with pytest.raises(ValueError, match=r"expected the file that was recorded"):
        download_sequences("cmu_mosi", tmp_path, server.address)


def test_a_dataset_without_public_addresses_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cmu_mosei.*cmu_mosi.*Received: name='ur_funny'"):
        download_sequences("ur_funny", tmp_path)
