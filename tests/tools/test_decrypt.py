"""`https-ota decrypt`: Espressif's images and those of another writer, and that nothing unverified is written."""

import encfiles
import images
import pytest

from https_ota_tools import cli, encimg
from https_ota_tools import keys as key_files
from https_ota_tools.errors import ToolError

APP = images.app_image(size=5000)
vectors = pytest.mark.skipif(
    not encfiles.VECTORS.is_dir(),
    reason="Espressif's test images are not part of this repository: see encfiles.VECTORS for where they are looked for",
)


@pytest.fixture
def command(capsys, tmp_path):
    """Returns a function that decrypts `data` into out.bin, and returns exit code, output and errors."""

    def command(data, key):
        (tmp_path / "file.bin").write_bytes(data)
        args = ["decrypt", tmp_path / "file.bin", "--key", key, "-o", tmp_path / "out.bin"]
        code = cli.main([str(a) for a in args])
        return code, *capsys.readouterr()

    return command


@pytest.fixture(scope="session")
def sealed(keys):
    """An application, encrypted by another writer for each scheme."""
    return {
        kind: encfiles.write(APP, key_files.load_public(keys.public(kind)))
        for kind in ("rsa", "p256")
    }


# Espressif's images


@vectors
def test_espressifs_rsa_image(command, tmp_path):
    data = (encfiles.VECTORS / "image.bin").read_bytes()
    key = encfiles.VECTORS / "test_rsa_private_key.pem"
    code, out, err = command(data, key)
    assert (code, err) == (0, "")
    assert out == (f"{tmp_path / 'out.bin'}: 11680 bytes, unchanged since they were encrypted\n")
    assert (tmp_path / "out.bin").read_bytes() == (b"Espressif" * 8 + b"\n") * 160
    aes_key = "81d3a772a29055eb29158e43df5b189a40d5c1bcfc52984e81b5a18b422840b7"
    assert encfiles.aes_key(data, key_files.load_private(key)).hex() == aes_key


@vectors
def test_espressifs_p256_image(command, tmp_path):
    data = (encfiles.VECTORS / "image_ecc.bin").read_bytes()
    (tmp_path / "scalar").write_bytes(encfiles.VECTOR_SCALAR)
    assert command(data, tmp_path / "scalar")[0] == 0
    assert (tmp_path / "out.bin").read_bytes() == b"test file\n"
    aes_key = "6d8e54a9ef59bead85da0fe5e30dbd997ba057cac04759ebe831a3c53dfc86a0"
    assert encfiles.aes_key(data, encimg.from_scalar(encfiles.VECTOR_SCALAR)).hex() == aes_key


# Keys


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_pem(command, tmp_path, keys, sealed, kind):
    assert command(sealed[kind], keys.private(kind))[0] == 0
    assert (tmp_path / "out.bin").read_bytes() == APP


@pytest.mark.parametrize("options", [[], ["--hmac-key"]], ids=["PEM", "HMAC key"])
def test_every_file_that_keygen_makes(command, tmp_path, options):
    key = tmp_path / "device.key"
    assert cli.main(["keygen", "encrypt-p256", *options, "-o", str(key)]) == 0
    data = encfiles.write(APP, key_files.load_public(tmp_path / "device.pub.pem"))
    for path in (key, tmp_path / "device.scalar.bin"):
        assert command(data, path)[0] == 0
        assert (tmp_path / "out.bin").read_bytes() == APP
        (tmp_path / "out.bin").unlink()


def test_espressifs_example_of_an_hmac_key(command, tmp_path):
    """32 bytes may be a scalar or an HMAC key: what opens the image is meant."""
    public = encimg.from_scalar(encfiles.EXAMPLE_SCALAR).public_key()
    data = encfiles.write(APP, public)
    for secret in (encfiles.EXAMPLE_HMAC_KEY, encfiles.EXAMPLE_SCALAR):
        (tmp_path / "key").write_bytes(secret)
        assert command(data, tmp_path / "key")[0] == 0


def test_hmac_key_that_is_no_scalar(command, tmp_path):
    (tmp_path / "key").write_bytes(b"\xff" * 32)
    scalar = encfiles.hmac_key_to_scalar(b"\xff" * 32)
    data = encfiles.write(APP, encimg.from_scalar(scalar).public_key())
    assert command(data, tmp_path / "key")[0] == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.pem", "cannot read"),
        ("rsa2048.pem", "is RSA-3072 or P-256, this one is RSA-2048"),
        ("p192.pem", "this one is P-192"),
        ("rsa2048.pub.pem", "expected a private key (PEM), a public one came"),
        ("damaged.pem", "the private key in it is damaged, or of no known kind"),
        ("secret.pem", "is protected by a passphrase"),
        (
            "short",
            "expected a private key as PEM, or 32 bytes that are a scalar or an HMAC key; 31 ",
        ),
    ],
)
def test_keys_that_are_refused(command, tmp_path, bad_keys, sealed, name, words):
    (bad_keys / "short").write_bytes(bytes(31))
    code, out, err = command(sealed["rsa"], bad_keys / name)
    assert (code, out) == (2, "")
    assert words in err
    assert str(bad_keys / name) in err
    assert not (tmp_path / "out.bin").exists()


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_key_of_another_device(command, tmp_path, keys, sealed, kind):
    scheme = {"rsa": "rsa3072", "p256": "ecdsa256"}[kind]
    keys.make(f"{kind}-other", scheme)
    code, _, err = command(sealed[kind], keys.private(f"{kind}-other"))
    assert code == 1
    assert (
        "the key does not open it: the image was encrypted for another key, or was changed" in err
    )
    assert not (tmp_path / "out.bin").exists()


@pytest.mark.parametrize(("kind", "other"), [("rsa", "p256"), ("p256", "rsa")])
def test_key_of_the_other_scheme(command, tmp_path, keys, sealed, kind, other):
    code, _, err = command(sealed[kind], keys.private(other))
    assert code == 1
    names = {"rsa": "RSA-3072", "p256": "P-256"}
    assert (
        f"the key is {names[other]}, by its looks the image was encrypted for {names[kind]}" in err
    )
    assert not (tmp_path / "out.bin").exists()


def test_neither_key_nor_output_is_overwritten(capsys, tmp_path, keys, sealed):
    (tmp_path / "file.bin").write_bytes(sealed["p256"])
    key = keys.private("p256")
    before = key.read_bytes()
    assert (
        cli.main(["decrypt", str(tmp_path / "file.bin"), "--key", str(key), "-o", str(key)]) == 2
    )
    assert "is a key of this command" in capsys.readouterr().err
    assert key.read_bytes() == before


# Changed images


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_every_byte_counts(keys, sealed, kind):
    """All but those that the format reserves: a sample, and the edges of each field."""
    key = key_files.load_private(keys.private(kind))
    used = [*range(424), *range(512, len(sealed[kind]))]
    if kind == "p256":
        used = [i for i in used if not 100 <= i < 388]
    edges = {0, 3, 4, 67, 68, 99, 387, 388, 403, 404, 407, 408, 423, 512, len(sealed[kind]) - 1}
    for at in sorted({*used[::61], *edges} & {*used}):
        data = bytearray(sealed[kind])
        data[at] ^= 1 << at % 8
        with pytest.raises(ToolError):
            encimg.decrypt(bytes(data), key)


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_reserved_bytes_do_not_count(keys, sealed, kind):
    """As with Espressif's reader: a later version may use them."""
    key = key_files.load_private(keys.private(kind))
    data = bytearray(sealed[kind])
    data[424] ^= 1
    data[511] ^= 1
    assert encimg.decrypt(bytes(data), key) == APP


def test_what_was_there_stays_when_it_fails(command, tmp_path, keys, sealed):
    (tmp_path / "out.bin").write_bytes(b"the release before")
    data = sealed["rsa"][:-1] + bytes([sealed["rsa"][-1] ^ 1])
    code, out, err = command(data, keys.private("rsa"))
    assert (code, out) == (1, "")
    assert "the key does not open it" in err
    assert (tmp_path / "out.bin").read_bytes() == b"the release before"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: b"", "not an encrypted image: expected first bytes cfb68807, came none"),
        (lambda d: APP, "not an encrypted image: expected first bytes cfb68807, came e9"),
        (lambda d: d[:511], "ends within its header: expected 512 bytes, came 511"),
        (lambda d: d[:-1], "it is cut off: expected 512 + 4992 bytes by its header, came 5503"),
        (lambda d: d[:512], "it is cut off: expected 512 + 4992 bytes by its header, came 512"),
        (lambda d: d + b"\n", "something is behind it: expected 512 + 4992 bytes"),
        # No point of the curve.
        (lambda d: d[:4] + bytes(64) + d[68:], "the key does not open it"),
    ],
    ids=["empty", "plain", "header", "cut", "no data", "more", "no point"],
)
def test_files_that_are_refused(command, tmp_path, keys, sealed, change, words):
    assert len(APP) == 4992
    code, out, err = command(change(sealed["p256"]), keys.private("p256"))
    assert (code, out) == (1, "")
    assert words in err
    assert not (tmp_path / "out.bin").exists()


def test_wrapped_key_of_another_length(command, keys):
    """RSA could carry a key of 16 bytes, which would make it AES-128."""
    public = key_files.load_public(keys.public("rsa"))
    data = bytearray(encfiles.write(APP, public))
    data[4:388] = public.encrypt(bytes(16), encfiles.padding.PKCS1v15())
    code, _, err = command(bytes(data), keys.private("rsa"))
    assert code == 1
    assert "the key does not open it" in err


def test_a_file_that_is_not_there(capsys, tmp_path, keys):
    args = ["decrypt", "no-such.bin", "--key", keys.private("p256"), "-o", tmp_path / "out.bin"]
    assert cli.main([str(a) for a in args]) == 2
    assert "cannot read no-such.bin: No such file" in capsys.readouterr().err
