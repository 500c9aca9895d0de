"""`https-ota keygen`: keys that Espressif's tools and OpenSSL read, and files that only their owner does."""

import os
import stat
import subprocess

import encfiles
import images
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from keyfiles import SCHEMES, espsecure

from https_ota_tools import cli, encimg, keygen
from https_ota_tools import keys as key_files
from https_ota_tools.errors import ToolError


@pytest.fixture
def command(capsys):
    """Returns a function that runs the command and returns exit code, output and errors."""

    def command(*args):
        code = cli.main(["keygen", *map(str, args)])
        return code, *capsys.readouterr()

    return command


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# Keys that sign


@pytest.mark.parametrize("kind", SCHEMES)
def test_espsecure_uses_it(command, tmp_path, kind):
    key = tmp_path / "k.pem"
    ours = {"rsa": "sign-rsa3072"}.get(kind, f"sign-{kind}")
    code, out, err = command(ours, "-o", key)
    assert (code, err) == (0, "")
    assert names(tmp_path) == ["k.pem", "k.pub.pem"]
    app, signed, theirs = (tmp_path / name for name in ("app.bin", "signed.bin", "theirs.pem"))
    espsecure("extract-public-key", "--version", "2", "--keyfile", key, theirs)
    assert theirs.read_bytes() == (tmp_path / "k.pub.pem").read_bytes()
    app.write_bytes(images.app_image(size=512))
    espsecure("sign-data", "--version", "2", "--keyfile", key, "-o", signed, app)
    public = tmp_path / "k.pub.pem"
    espsecure("verify-signature", "--version", "2", "--keyfile", public, signed)
    digest = tmp_path / "digest"
    espsecure("digest-sbv2-public-key", "--keyfile", public, "-o", digest)
    assert out.splitlines() == [
        f"{key}: private key, keep it secret and safe",
        f"{public}: public key, for https-ota verify --trusted",
        f"key digest, for the device's trusted_keys: {digest.read_bytes().hex()}",
    ]


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384"])
def test_pem_of_the_kind_that_espsecure_writes(tmp_path, keys, kind):
    made = keygen.make(f"sign-{SCHEMES[kind] if kind == 'rsa' else kind}", tmp_path / "k.pem")
    first = keys.private(kind).read_bytes().splitlines()[0]
    assert made.private.read_bytes().splitlines()[0] == first
    assert len(made.digest) == 64


# Keys for encrypted images


def test_rsa_for_encryption(command, tmp_path):
    key = tmp_path / "device.pem"
    code, out, _ = command("encrypt-rsa3072", "-o", key)
    assert code == 0
    assert names(tmp_path) == ["device.pem", "device.pub.pem"]
    private = load_pem_private_key(key.read_bytes(), None)
    public = load_pem_public_key((tmp_path / "device.pub.pem").read_bytes())
    assert private.key_size == 3072
    assert private.public_key() == public
    assert key.read_bytes().startswith(b"-----BEGIN RSA PRIVATE KEY")
    assert f"EncryptedImage(rsa_key=...), the contents of {key}" in out
    assert "digest" not in out


def test_p256_for_encryption(command, tmp_path):
    key = tmp_path / "device.pem"
    code, out, _ = command("encrypt-p256", "-o", key)
    assert code == 0
    assert names(tmp_path) == ["device.pem", "device.pub.pem", "device.scalar.bin"]
    private = load_pem_private_key(key.read_bytes(), None)
    scalar = (tmp_path / "device.scalar.bin").read_bytes()
    assert len(scalar) == 32
    assert int.from_bytes(scalar, "big") == private.private_numbers().private_value
    assert private.public_key() == load_pem_public_key((tmp_path / "device.pub.pem").read_bytes())
    assert f"EncryptedImage(ec_key=...), the contents of {tmp_path / 'device.scalar.bin'}" in out
    assert "hmac_key" not in out


def test_hmac_key(command, tmp_path):
    key = tmp_path / "hmac.bin"
    code, out, _ = command("encrypt-p256", "--hmac-key", "-o", key)
    assert code == 0
    assert names(tmp_path) == ["hmac.bin", "hmac.pub.pem", "hmac.scalar.bin"]
    assert len(key.read_bytes()) == 32
    scalar = (tmp_path / "hmac.scalar.bin").read_bytes()
    assert scalar == encfiles.hmac_key_to_scalar(key.read_bytes())
    private = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    public = load_pem_public_key((tmp_path / "hmac.pub.pem").read_bytes())
    assert private.public_key() == public
    assert f"EncryptedImage(hmac_key=...), the contents of {key};" in out
    assert f"EncryptedImage(ec_key=...), the contents of {tmp_path / 'hmac.scalar.bin'}" in out


def test_espressifs_example_of_an_hmac_key():
    """A known answer, for a public test key."""
    assert encimg.derive_scalar(encfiles.EXAMPLE_HMAC_KEY) == encfiles.EXAMPLE_SCALAR
    assert encfiles.hmac_key_to_scalar(encfiles.EXAMPLE_HMAC_KEY) == encfiles.EXAMPLE_SCALAR
    key = encimg.from_scalar(encfiles.EXAMPLE_SCALAR)
    assert encimg.to_scalar(key) == encfiles.EXAMPLE_SCALAR


@pytest.mark.parametrize(
    "scalar",
    [bytes(32), b"\xff" * 32, encimg.P256_ORDER.to_bytes(32, "big")],
    ids=["0", "largest", "order"],
)
def test_numbers_that_are_no_key(scalar):
    with pytest.raises(ToolError, match="a number above 0 and below the order"):
        encimg.from_scalar(scalar)


def test_numbers_at_the_limits_are_keys():
    for number in (1, encimg.P256_ORDER - 1):
        scalar = number.to_bytes(32, "big")
        assert encimg.to_scalar(encimg.from_scalar(scalar)) == scalar


# Files


@pytest.mark.parametrize("options", [[], ["--hmac-key"]])
@pytest.mark.parametrize("umask", [0, 0o077])
def test_only_the_owner_reads_what_is_secret(command, tmp_path, options, umask):
    before = os.umask(umask)
    try:
        assert command("encrypt-p256", *options, "-o", tmp_path / "k.pem")[0] == 0
    finally:
        os.umask(before)
    assert mode(tmp_path / "k.pem") == 0o600
    assert mode(tmp_path / "k.scalar.bin") == 0o600
    assert mode(tmp_path / "k.pub.pem") == 0o666 & ~umask


@pytest.mark.parametrize("there", ["k.pem", "k.pub.pem", "k.scalar.bin"])
def test_nothing_is_overwritten(command, tmp_path, there):
    (tmp_path / there).write_text("precious")
    code, out, err = command("encrypt-p256", "-o", tmp_path / "k.pem")
    assert (code, out) == (2, "")
    assert err == (
        f"https-ota: error: {tmp_path / there} exists already: keys are never overwritten, choose another name\n"
    )
    assert names(tmp_path) == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_link_is_not_followed(command, tmp_path):
    (tmp_path / "k.pem").symlink_to(tmp_path / "elsewhere")
    code, _, err = command("sign-p256", "-o", tmp_path / "k.pem")
    assert code == 2
    assert "k.pem exists already: keys are never overwritten" in err
    assert names(tmp_path) == ["k.pem"]


def test_all_files_or_none(tmp_path):
    new = [
        key_files.NewFile(path, b"", secret=True)
        for path in (tmp_path / "a", tmp_path / "none" / "b")
    ]
    with pytest.raises(ToolError, match=r"cannot write .*b: No such file or directory"):
        key_files.write_new(new)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sign-p256", "-o", "no/such/folder/k.pem"], "cannot write no/such/folder/k.pem: "),
        (["sign-p256", "-o", "/"], "/ is a folder: expected the name of a file"),
        (["sign-p256", "--hmac-key", "-o", "k"], "only an encrypt-p256 key is derived from"),
        (["encrypt-rsa3072", "--hmac-key", "-o", "k"], "only an encrypt-p256 key is derived from"),
    ],
)
def test_what_cannot_be_done(command, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*args)
    assert (code, out) == (2, "")
    assert words in err
    assert names(tmp_path) == []


def test_unknown_kind(command, capsys, tmp_path):
    with pytest.raises(SystemExit) as e:
        command("sign-rsa2048", "-o", tmp_path / "k.pem")
    assert e.value.code == 2
    assert "sign-rsa3072" in capsys.readouterr().err
    with pytest.raises(ToolError, match="expected one of sign-rsa3072, sign-p256, "):
        keygen.make("sign-rsa2048", tmp_path / "k.pem")


def test_the_ending_is_replaced(tmp_path):
    made = keygen.make("sign-p256", tmp_path / "release.2026.pem")
    assert made.public.name == "release.2026.pub.pem"
    made = keygen.make("sign-p256", tmp_path / "plain")
    assert made.public.name == "plain.pub.pem"


def test_no_secret_is_printed(command, tmp_path):
    for kind in ("encrypt-rsa3072", "encrypt-p256", "sign-p384"):
        _, out, err = command(kind, "-o", tmp_path / f"{kind}.pem")
        lines = (tmp_path / f"{kind}.pem").read_text().splitlines()[1:-1]
        assert not any(line in out + err for line in lines)
    assert (tmp_path / "encrypt-p256.scalar.bin").read_bytes().hex() not in out


def test_openssl_reads_them(command, tmp_path):
    for kind in ("encrypt-p256", "sign-p384", "sign-rsa3072"):
        command(kind, "-o", tmp_path / f"{kind}.pem")
        made = ["openssl", "pkey", "-in", tmp_path / f"{kind}.pem", "-pubout"]
        done = subprocess.run(made, capture_output=True, check=True)
        assert done.stdout == (tmp_path / f"{kind}.pub.pem").read_bytes()
