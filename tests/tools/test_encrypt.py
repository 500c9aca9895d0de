"""`https-ota encrypt`: what it makes, read by another reader of the format, and what it refuses."""

import encfiles
import images
import pytest
from hypothesis import given
from hypothesis import strategies as st

from https_ota_tools import cli, encimg
from https_ota_tools import keys as key_files

APP = images.app_image(size=5000)


@pytest.fixture
def command(capsys, tmp_path):
    """Returns a function that encrypts `data` into out.bin, and returns exit code, output and errors."""

    def command(data, key, *args):
        (tmp_path / "app.bin").write_bytes(data)
        args = ["encrypt", tmp_path / "app.bin", "--key", key, "-o", tmp_path / "out.bin", *args]
        code = cli.main([str(a) for a in args])
        return code, *capsys.readouterr()

    return command


@pytest.mark.parametrize(("kind", "scheme"), [("rsa", "RSA-3072"), ("p256", "P-256")])
def test_another_reader_opens_it(command, tmp_path, keys, kind, scheme):
    code, out, err = command(APP, keys.public(kind))
    assert (code, err) == (0, "")
    assert out == (
        f"{tmp_path / 'out.bin'}: app.bin encrypted, for the {scheme} key {kind}.pub.pem\n"
    )
    data = (tmp_path / "out.bin").read_bytes()
    assert len(data) == 512 + len(APP)
    assert encfiles.read(data, key_files.load_private(keys.private(kind))) == APP


@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4096])
def test_any_data_by_force(command, tmp_path, keys, kind, size):
    data = bytes(range(256)) * 16
    assert command(data[:size], keys.public(kind), "--force")[0] == 0
    made = (tmp_path / "out.bin").read_bytes()
    assert encfiles.read(made, key_files.load_private(keys.private(kind))) == data[:size]


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_every_image_has_keys_of_its_own(keys, kind):
    private, public = (
        key_files.load_private(keys.private(kind)),
        key_files.load_public(keys.public(kind)),
    )
    made = [encimg.encrypt(APP, public) for _ in range(3)]
    assert len({encfiles.aes_key(data, private) for data in made}) == 3
    assert len({data[388:404] for data in made}) == 3
    # Of P-256: the point, then the salt.
    assert len({data[4:68] for data in made}) == 3
    assert len({data[68:100] for data in made}) == 3
    assert len({data[512:] for data in made}) == 3


@given(st.binary(max_size=100))
def test_what_goes_in_comes_out(data):
    """With a scalar as small as the keys of no one."""
    key = encimg.from_scalar(bytes(31) + b"\x02")
    made = encimg.encrypt(data, key.public_key())
    assert encfiles.read(made, key) == encimg.decrypt(made, key) == data


# What is not encrypted


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the application can't be used: the file is empty"),
        (images.corrupt(APP, "hash"), "the application can't be used: SHA-256: expected"),
        (b"\xcf\xb6\x88\x07" + bytes(999), "not an image but an encrypted image"),
        (b"test file\n", "expected 24 bytes, came 10"),
    ],
    ids=["empty", "hash", "encrypted", "text"],
)
def test_files_that_are_refused(command, tmp_path, keys, data, words):
    code, out, err = command(data, keys.public("p256"))
    assert (code, out) == (2, "")
    assert words in err
    assert not (tmp_path / "out.bin").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.pem", "cannot read"),
        ("rsa2048.pub.pem", "is RSA-3072 or P-256, this one is RSA-2048"),
        ("p192.pub.pem", "is RSA-3072 or P-256, this one is P-192"),
        ("ed25519.pub.pem", "expected an RSA or EC key, another kind came"),
        ("damaged.pub.pem", "the public key in it is damaged, or of no known kind"),
        ("cert.pem", "expected a public key (PEM), a certificate came"),
        ("rsa2048.pem", "is a private key: expected the public one"),
    ],
)
def test_keys_that_are_refused(command, tmp_path, bad_keys, name, words):
    code, out, err = command(APP, bad_keys / name)
    assert (code, out) == (2, "")
    assert words in err
    assert str(bad_keys / name) in err
    assert not (tmp_path / "out.bin").exists()


def test_p384_is_for_signing(command, keys):
    code, _, err = command(APP, keys.public("p384"))
    assert code == 2
    assert "a key for encrypted images is RSA-3072 or P-256, this one is P-384" in err


def test_the_key_is_not_overwritten(capsys, tmp_path, keys):
    (tmp_path / "app.bin").write_bytes(APP)
    key = keys.public("p256")
    before = key.read_bytes()
    assert cli.main(["encrypt", str(tmp_path / "app.bin"), "--key", str(key), "-o", str(key)]) == 2
    assert "is a key of this command" in capsys.readouterr().err
    assert key.read_bytes() == before


def test_a_file_that_is_not_there(capsys, tmp_path, keys):
    args = ["encrypt", "no-such.bin", "--key", keys.public("p256"), "-o", tmp_path / "out.bin"]
    assert cli.main([str(a) for a in args]) == 2
    assert "cannot read no-such.bin: No such file" in capsys.readouterr().err


def test_output_that_cannot_be_written(command, tmp_path, keys):
    (tmp_path / "out.bin").mkdir()
    code, _, err = command(APP, keys.public("p256"))
    assert code == 2
    assert f"cannot write {tmp_path / 'out.bin'}: " in err
