"""`https-ota sign`: signatures that espsecure accepts, and what is refused to be signed."""

import encfiles
import images
import pytest
from keyfiles import KINDS, NAMES, espsecure

from https_ota_tools import cli, image, sbv2
from https_ota_tools import keys as key_files
from https_ota_tools.errors import ToolError

APP = images.app_image(size=5000)


@pytest.fixture
def command(capsys, tmp_path):
    """Returns a function that signs `data` into out.bin, and returns exit code, output and errors."""

    def command(data, *args):
        (tmp_path / "app.bin").write_bytes(data)
        args = ["sign", tmp_path / "app.bin", "-o", tmp_path / "out.bin", *args]
        code = cli.main([str(a) for a in args])
        return code, *capsys.readouterr()

    return command


def with_keys(keys, *names):
    return [a for name in names for a in ("--key", keys.private(name))]


def espsecure_accepts(path, keys, *names):
    for name in names:
        espsecure("verify-signature", "--version", "2", "--keyfile", keys.public(name), path)


# Signed by us, read by Espressif


@pytest.mark.parametrize("kind", KINDS)
def test_espsecure_accepts_it(command, tmp_path, keys, kind):
    code, out, err = command(APP, *with_keys(keys, kind))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"block 0: {NAMES[kind]}, key digest {keys.digests[kind]}",
        f"{tmp_path / 'out.bin'}: 1 signature",
    ]
    data = (tmp_path / "out.bin").read_bytes()
    assert data[:8192] == APP.ljust(8192, b"\xff")
    assert len(data) == 8192 + 4096
    espsecure_accepts(tmp_path / "out.bin", keys, kind)
    others = [keys.public(k) for k in KINDS if k != kind]
    # Of another kind, espsecure can't read the block at all.
    espsecure(
        *("verify-signature", "--version", "2", "--keyfile", others[0], tmp_path / "out.bin"),
        refused=True,
    )


def test_three_signatures(command, tmp_path, keys):
    code, out, _ = command(APP, *with_keys(keys, "rsa", "p256", "p384"))
    assert code == 0
    info = espsecure("signature-info-v2", tmp_path / "out.bin")
    for n, kind in enumerate(KINDS):
        digest = keys.digests[kind]
        assert f"block {n}: {NAMES[kind]}, key digest {digest}" in out
        pairs = " ".join(digest[i : i + 2] for i in range(0, 64, 2))
        assert f"Public key digest for block {n}: {pairs}" in " ".join(info.split())


@pytest.mark.parametrize("kind", KINDS)
def test_three_of_a_kind(command, tmp_path, keys, kind, more_keys):
    names = [kind, f"{kind}-2", f"{kind}-3"]
    assert command(APP, *with_keys(more_keys, *names))[0] == 0
    espsecure_accepts(tmp_path / "out.bin", more_keys, *names)


@pytest.fixture(scope="session")
def more_keys(keys):
    """Two more keys of each kind."""
    for kind, scheme in (("rsa", "rsa3072"), ("p256", "ecdsa256"), ("p384", "ecdsa384")):
        for n in (2, 3):
            keys.make(f"{kind}-{n}", scheme)
    return keys


def test_append(command, tmp_path, keys):
    """To our signature, and to one of espsecure."""
    assert command(APP, *with_keys(keys, "rsa"))[0] == 0
    first = (tmp_path / "out.bin").read_bytes()
    code, out, _ = command(first, "--append", *with_keys(keys, "p256"))
    assert code == 0
    second = (tmp_path / "out.bin").read_bytes()
    assert second[: 8192 + 1216] == first[: 8192 + 1216]
    assert out.splitlines()[:2] == [
        f"block 0: RSA-3072, key digest {keys.digests['rsa']}",
        f"block 1: P-256, key digest {keys.digests['p256']}",
    ]
    espsecure(
        *("sign-data", "--version", "2", "--keyfile", keys.private("p384")),
        *("--append-signatures", tmp_path / "out.bin"),
    )
    found = sbv2.blocks((tmp_path / "out.bin").read_bytes(), len(APP))
    assert [(b.scheme, b.problem) for b in found] == [(NAMES[k], "") for k in KINDS]


def test_append_to_what_espsecure_signed(command, tmp_path, keys):
    (tmp_path / "theirs.bin").write_bytes(APP)
    espsecure(
        *("sign-data", "--keyfile", keys.private("p256"), "--version", "2"),
        tmp_path / "theirs.bin",
    )
    data = (tmp_path / "theirs.bin").read_bytes()
    assert command(data, "--append", *with_keys(keys, "rsa"))[0] == 0
    espsecure_accepts(tmp_path / "out.bin", keys, "rsa")


@pytest.mark.parametrize("size", [4096, 8192 - 16, 8192, 8192 + 16])
def test_sizes_around_a_sector(command, tmp_path, keys, size):
    data = images.app_image(size=size)
    assert command(data, *with_keys(keys, "p256"))[0] == 0
    assert (tmp_path / "out.bin").stat().st_size == -(-size // 4096) * 4096 + 4096
    espsecure_accepts(tmp_path / "out.bin", keys, "p256")


def test_padding_that_is_there_already(command, tmp_path, keys):
    """As far as it is 0xFF it is what would be put there."""
    assert command(APP + b"\xff" * 10_000, *with_keys(keys, "p256"))[0] == 0
    assert (tmp_path / "out.bin").stat().st_size == 8192 + 4096
    espsecure_accepts(tmp_path / "out.bin", keys, "p256")


def test_in_place(capsys, tmp_path, keys):
    path = tmp_path / "app.bin"
    path.write_bytes(APP)
    args = ["sign", path, "-o", path, *with_keys(keys, "rsa")]
    assert cli.main([str(a) for a in args]) == 0
    espsecure_accepts(path, keys, "rsa")


@pytest.mark.parametrize("kind", KINDS)
def test_digest_of_a_key(keys, kind):
    """As espsecure's, from the public key alone."""
    assert sbv2.key_digest(key_files.load_public(keys.public(kind))) == keys.digests[kind]


# What is not signed


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (images.corrupt(APP, "data"), "the image is corrupt"),
        (images.corrupt(APP, "cut"), "cut off within its SHA-256"),
        (images.bootloader_image(), "the mark of a bootloader"),
        (b"\xcf\xb6\x88\x07" + bytes(999), "sign an image before it is encrypted"),
        (APP + b"more", "4 bytes behind the image are no part of it"),
    ],
    ids=["empty", "data", "cut", "bootloader", "encrypted", "more"],
)
def test_files_that_are_refused(command, tmp_path, keys, data, words):
    code, out, err = command(data, *with_keys(keys, "p256"))
    assert (code, out) == (2, "")
    assert words in err
    assert not (tmp_path / "out.bin").exists()


@pytest.fixture(scope="session")
def signed(keys):
    """An application with a signature by rsa."""
    return sbv2.sign(APP, [key_files.load_private(keys.private("rsa"))])


@pytest.mark.parametrize(
    ("options", "names", "words"),
    [
        ([], ["p256"], "it is signed already (blocks: 1): --append adds a signature"),
        (["--append"], ["rsa"], " has signed it already"),
        (["--append"], ["p256", "p256"], " has signed it already"),
        (["--append"], ["p256", "p384", "p256-b"], "has room for 3 signatures, not for 4"),
    ],
)
def test_signed_images_that_are_refused(command, tmp_path, keys, signed, options, names, words):
    keys.make("p256-b", "ecdsa256")
    code, _, err = command(signed, *options, *with_keys(keys, *names))
    assert code == 2
    assert words in err
    assert not (tmp_path / "out.bin").exists()


def test_append_to_nothing(command, keys):
    code, _, err = command(APP, "--append", *with_keys(keys, "p256"))
    assert code == 2
    assert "it is not signed yet: sign it without --append" in err


def test_append_to_a_bad_signature(command, keys, signed):
    bad = bytearray(signed)
    bad[8192 + 900] ^= 1
    code, _, err = command(bytes(bad), "--append", *with_keys(keys, "p256"))
    assert code == 2
    assert "block 0, which is there already, is no good: CRC bad" in err


def test_append_behind_a_gap(command, keys, signed):
    moved = signed[:8192] + b"\xff" * 1216 + signed[8192 : 8192 + 1216] + b"\xff" * 1664
    code, _, err = command(moved, "--append", *with_keys(keys, "p256"))
    assert code == 2
    assert "block 0 is empty, block 1 is not" in err


# Keys


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rsa.pub.pem", "expected a private key (PEM), a public one came"),
        ("none.pem", "cannot read"),
        ("rsa.digest", "expected a private key (PEM), something else came"),
        ("rsa2048.pem", "a key for signing is RSA-3072 or P-256 or P-384, this one is RSA-2048"),
        ("p192.pem", "this one is P-192"),
        ("secret.pem", "is protected by a passphrase"),
        ("secret8.pem", "is protected by a passphrase"),
        ("ed25519.pem", "expected an RSA or EC key, another kind came"),
        ("damaged.pem", "the private key in it is damaged, or of no known kind"),
        ("cert.pem", "expected a private key (PEM), a certificate came"),
    ],
)
def test_keys_that_are_refused(command, tmp_path, keys, bad_keys, name, words):
    path = (keys.folder if name.startswith("rsa.") else bad_keys) / name
    code, out, err = command(APP, "--key", path)
    assert (code, out) == (2, "")
    assert words in err
    assert str(path) in err
    if path.exists() and name.endswith("d.pem"):
        assert not any(line in err for line in path.read_text().splitlines()[1:-1])
    assert not (tmp_path / "out.bin").exists()


def test_the_key_is_not_overwritten(capsys, tmp_path, keys):
    (tmp_path / "app.bin").write_bytes(APP)
    (tmp_path / "link").symlink_to(keys.private("p256"))
    before = keys.private("p256").read_bytes()
    for output in (keys.private("p256"), tmp_path / "link"):
        args = ["sign", tmp_path / "app.bin", *with_keys(keys, "p256"), "-o", output]
        assert cli.main([str(a) for a in args]) == 2
        assert f"{output} is a key of this command" in capsys.readouterr().err
    assert keys.private("p256").read_bytes() == before


def test_a_file_that_is_not_there(capsys, tmp_path, keys):
    args = ["sign", "no-such.bin", *with_keys(keys, "p256"), "-o", tmp_path / "out.bin"]
    assert cli.main([str(a) for a in args]) == 2
    assert "cannot read no-such.bin: No such file" in capsys.readouterr().err


def test_output_that_cannot_be_written(command, tmp_path, keys):
    (tmp_path / "out.bin").mkdir()
    code, _, err = command(APP, *with_keys(keys, "p256"))
    assert code == 2
    assert f"cannot write {tmp_path / 'out.bin'}: " in err


def test_a_script_can_call_it(keys):
    signer = key_files.load_private(keys.private("p384"))
    made = sbv2.sign(APP, [signer])
    assert image.examine(made).valid
    with pytest.raises(ToolError, match="expected a key to sign with, none came"):
        sbv2.sign(APP, [])


def test_signing_what_is_encrypted_afterwards(keys):
    """The signature is inside: what a device checks last it finds first."""
    made = sbv2.sign(APP, [key_files.load_private(keys.private("p256"))])
    sealed = encfiles.write(made, key_files.load_public(keys.public("rsa")))
    assert encfiles.read(sealed, key_files.load_private(keys.private("rsa"))) == made
