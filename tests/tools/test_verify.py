"""`https-ota verify`: the answer of a device, for files signed by Espressif's command and for every way to spoil one."""

import zlib

import encfiles
import images
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyfiles import KINDS, NAMES, SCHEMES, espsecure

from https_ota_tools import cli, image, sbv2, verify
from https_ota_tools import keys as key_files

APP = images.app_image(size=5000)
# Where the signatures of APP are.
SECTOR = 8192


@pytest.fixture
def command(capsys, tmp_path):
    """Returns a function that verifies `data`, and returns exit code, output and errors."""

    def command(data, *args):
        (tmp_path / "file.bin").write_bytes(data)
        code = cli.main(["verify", str(tmp_path / "file.bin"), *map(str, args)])
        return code, *capsys.readouterr()

    return command


@pytest.fixture(scope="session")
def signed(keys):
    """APP with one signature by espsecure, for each kind of key."""
    made = {}
    for kind in KINDS:
        path = keys.folder / f"{kind}-signed.bin"
        path.write_bytes(APP)
        espsecure("sign-data", "--keyfile", keys.private(kind), "--version", "2", path)
        made[kind] = path.read_bytes()
    return made


@pytest.fixture(scope="session")
def all_signed(keys, signed):
    """The same with three signatures."""
    path = keys.folder / "all-signed.bin"
    path.write_bytes(signed["rsa"])
    for kind in ("p256", "p384"):
        key = keys.private(kind)
        espsecure("sign-data", "--keyfile", key, "--version", "2", "--append-signatures", path)
    return path.read_bytes()


def changed(data, at, *values):
    data = bytearray(data)
    data[at : at + len(values)] = values
    return bytes(data)


def with_crc(data, block=0):
    """The same with the right CRC in a block."""
    at = SECTOR + block * 1216
    crc = zlib.crc32(data[at : at + 1196])
    return changed(data, at + 1196, *crc.to_bytes(4, "little"))


# What a device takes


@pytest.mark.parametrize("kind", KINDS)
def test_signed_by_espsecure(command, keys, signed, kind):
    for trusted in (keys.digests[kind], keys.digests[kind].upper(), keys.public(kind)):
        code, out, err = command(signed[kind], "--trusted", trusted)
        assert (code, err) == (0, "")
        assert f"block 0, {NAMES[kind]}, by the trusted key {keys.digests[kind]}" in out
        assert out.endswith("\na device takes this file\n")


@pytest.mark.parametrize("n", range(3))
def test_any_of_three_signatures_will_do(command, keys, all_signed, n):
    code, out, _ = command(all_signed, "--trusted", keys.digests[KINDS[n]])
    assert code == 0
    assert f"block {n}, {NAMES[KINDS[n]]}, by the trusted key" in out


def test_one_of_several_trusted_keys(command, keys, signed):
    trusted = [a for kind in KINDS for a in ("--trusted", keys.public(kind))]
    for kind in KINDS:
        assert command(signed[kind], *trusted)[0] == 0


def test_a_bad_signature_beside_a_good_one(command, keys, all_signed):
    data = changed(all_signed, SECTOR + 900, all_signed[SECTOR + 900] ^ 1)
    assert command(data, "--trusted", keys.digests["p256"])[0] == 0
    code, out, _ = command(data, "--trusted", keys.digests["rsa"])
    assert code == 1
    assert "block 0: CRC bad, it is damaged: expected 0x" in out
    assert f"block 1: the key {keys.digests['p256']} is not trusted" in out


def test_signed_with_padding_for_the_mmu(command, keys, tmp_path):
    """As `elf2image --secure-pad-v2` leaves an image: it ends at 64 KiB, the sector is next to it."""
    app = images.app_image(size=0x10000)
    (tmp_path / "app.bin").write_bytes(app)
    key = keys.private("p256")
    espsecure("sign-data", "--keyfile", key, "--version", "2", tmp_path / "app.bin")
    data = (tmp_path / "app.bin").read_bytes()
    assert len(data) == 0x11000
    assert command(data, "--trusted", keys.digests["p256"])[0] == 0


def test_without_trusted_keys_signatures_are_not_looked_at(command, signed):
    for data, has in ((APP, "none"), (signed["rsa"], "1"), (changed(signed["rsa"], 9000, 0), "1")):
        code, out, _ = command(data)
        assert code == 0
        assert f"not checked ({has} in the file): a device without trusted_keys takes any" in out


@pytest.fixture(scope="session")
def blocks(keys, all_signed):
    """Blocks by each key: over APP, and over something else."""
    over = {k: all_signed[SECTOR + 1216 * n :][:1216] for n, k in enumerate(KINDS)}
    other = images.app_image(size=5000, seed=3).ljust(SECTOR, b"\xff")
    load = key_files.load_private
    return over, {k: sbv2.sign_data(other, [load(keys.private(k))]) for k in KINDS}


def with_blocks(*blocks):
    return APP.ljust(SECTOR, b"\xff") + b"".join(blocks).ljust(4096, b"\xff")


@pytest.mark.parametrize("kind", KINDS)
def test_running_is_block_0_of_what_runs(command, tmp_path, keys, blocks, kind):
    good, bad = blocks
    path = tmp_path / "runs.bin"
    others = [k for k in KINDS if k != kind]
    for behind in ([], [good[others[0]]], [bad[others[0]]], [b"\xff" * 1216, good[others[1]]]):
        path.write_bytes(with_blocks(good[kind], *behind))
        code, out, _ = command(with_blocks(good[kind], good[others[1]]), "--running", path)
        assert code == 0
        assert f"block 0, {NAMES[kind]}, by the trusted key {keys.digests[kind]}" in out
        for first in (good[others[0]], b"\xff" * 1216, bad[kind]):
            code, out, _ = command(with_blocks(first, good[kind]), "--running", path)
            assert code == 1
            assert "must be in block 0" in out
            # Named, it counts anywhere.
            named = ("--running", path, "--trusted", keys.digests[kind])
            assert command(with_blocks(first, good[kind]), *named)[0] == 0
        assert command(with_blocks(good[others[0]]), "--running", path)[0] == 1
        named = ("--running", path, "--trusted", keys.digests[others[0]])
        assert command(with_blocks(good[others[0]]), *named)[0] == 0
        assert command(APP, "--running", path)[0] == 1


def test_what_runs_has_no_good_block_0(command, tmp_path, blocks):
    good, bad = blocks
    path = tmp_path / "runs.bin"
    damaged = changed(good["p256"], 50, good["p256"][50] ^ 1)
    for first in ((), (bad["p256"], good["p256"]), (b"\xff" * 1216, good["rsa"]), (damaged,)):
        path.write_bytes(with_blocks(*first))
        code, _, err = command(with_blocks(good["p256"]), "--running", path)
        assert code == 2
        assert f'{path}: trusted_keys="running" finds no key in this image' in err


# What it refuses


def test_unsigned(command, keys):
    for data in (APP, APP + b"\xff" * 9000, APP + bytes(9000)):
        code, out, _ = command(data, "--trusted", keys.digests["rsa"])
        assert code == 1
        assert "the image is not signed: expected a signature by a trusted key" in out
        assert out.endswith("\na device refuses this file\n")


def test_signed_by_another(command, keys, signed):
    code, out, _ = command(signed["rsa"], "--trusted", keys.digests["p256"])
    assert code == 1
    assert f"no good signature by a trusted key ({keys.digests['p256']}): " in out
    assert f"block 0: the key {keys.digests['rsa']} is not trusted" in out


def test_signed_at_the_end_of_a_longer_file(command, keys, tmp_path):
    """espsecure signs whatever there is; a device looks right behind the image."""
    (tmp_path / "app.bin").write_bytes(APP + bytes(9000))
    key = keys.private("p256")
    espsecure("sign-data", "--keyfile", key, "--version", "2", tmp_path / "app.bin")
    data = (tmp_path / "app.bin").read_bytes()
    code, out, _ = command(data, "--trusted", keys.digests["p256"])
    assert code == 1
    assert "the image is not signed" in out


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_counts(keys, signed, kind):
    """Of image, padding and block, whether the block's CRC fits or not: a sample, and the edges of the fields."""
    sample = {*range(0, SECTOR + 1200, 167)}
    edges = {0, len(APP) - 1, len(APP), SECTOR - 1}
    edges |= {SECTOR + i for i in (0, 1, 2, 4, 35, 36, 37, 51, 52, 53, 100, 101, 148, 149)}
    edges |= {SECTOR + i for i in (164, 244, 419, 420, 424, 808, 811, 812, 1195, 1196, 1199)}
    # What the format leaves empty in a block is guarded by the CRC alone, which an attacker can make.
    used = {"rsa": (2, 4, 1196), "p256": (3, 3, 165), "p384": (3, 3, 245)}[kind]
    for at in sorted(sample | edges):
        data = changed(signed[kind], at, signed[kind][at] ^ 1 << at % 8)
        assert not verify.verify(data, [keys.digests[kind]]).valid, at
        inside = at - SECTOR
        if 0 <= inside < used[0] or used[1] <= inside < used[2]:
            assert not verify.verify(with_crc(data), [keys.digests[kind]]).valid, at


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [SECTOR, SECTOR + 1, SECTOR + 1200, SECTOR + 1215])
def test_cut_off(keys, signed, kind, size):
    report = verify.verify(signed[kind][:size], [keys.digests[kind]])
    assert not report.valid


def test_key_of_another_in_the_block(keys, signed):
    """The digest of a trusted key is no secret: it must be that of the key which verifies."""
    key = signed["p256"][SECTOR + 36 : SECTOR + 101]
    keys.make("p256-mallory", "ecdsa256")
    private = key_files.load_private(keys.private("p256-mallory"))
    data = sbv2.sign(APP, [private])
    data = with_crc(changed(data, SECTOR + 36, *key))
    report = verify.verify(data, [keys.digests["p256"]])
    assert report.problems[0].endswith("block 0: the signature is not by the key in it")


def test_signature_of_another_image(keys, signed):
    other = images.app_image(size=5000, seed=1)
    data = other.ljust(SECTOR, b"\xff") + signed["rsa"][SECTOR:]
    report = verify.verify(data, [keys.digests["rsa"]])
    assert "block 0: it was made for another image: this one's digest is " in report.problems[0]


@pytest.mark.parametrize(
    ("at", "values", "words"),
    [
        (1, [4], "unknown scheme (version 4, hash 0): expected RSA-3072 or P-256 or P-384"),
        (2, [2], "unknown scheme (version 3, hash 2)"),
        (36, [9], "unknown scheme (version 3, hash 0)"),
        (37, [0] * 64, "the key in it is no P-256 key"),
        (101, [0] * 64, "the signature is not by the key in it"),
        (101, [255] * 64, "the signature is not by the key in it"),
    ],
)
def test_blocks_that_are_no_good(signed, at, values, words):
    data = with_crc(changed(signed["p256"], SECTOR + at, *values))
    (block,) = sbv2.blocks(data, len(APP))
    assert not block.good
    assert words in block.problem


@pytest.mark.parametrize(
    ("at", "values", "words"),
    [
        (36, [0] * 384, "the key in it is no RSA-3072 key"),
        (36, [0], "the key in it is no RSA-3072 key"),
        (420, [0] * 4, "the key in it is no RSA-3072 key"),
        (420, [4], "the key in it is no RSA-3072 key"),
        (424, [1], "what the chip's RSA unit needs (R, M') does not fit the key in it"),
        (808, [1, 2, 3, 4], "what the chip's RSA unit needs (R, M') does not fit the key in it"),
        (812, [255] * 384, "the signature is not by the key in it"),
    ],
)
def test_rsa_blocks_that_are_no_good(signed, at, values, words):
    data = with_crc(changed(signed["rsa"], SECTOR + at, *values))
    (block,) = sbv2.blocks(data, len(APP))
    assert not block.good
    assert words in block.problem


def test_p192(command, keys, tmp_path):
    """espsecure signs with it, ESP-IDF's newest versions don't take it."""
    (tmp_path / "app.bin").write_bytes(APP)
    keys.make("p192", "ecdsa192")
    key = keys.private("p192")
    espsecure("sign-data", "--keyfile", key, "--version", "2", tmp_path / "app.bin")
    data = (tmp_path / "app.bin").read_bytes()
    code, out, _ = command(data, "--trusted", keys.digests["rsa"])
    assert code == 1
    assert "block 0: P-192, which the device does not take: expected RSA-3072 or P-256" in out


@given(st.data())
def test_blocks_never_raises(data):
    kind = data.draw(st.sampled_from([b"\xe7\x02\0", b"\xe7\x03\0", b"\xe7\x03\x01"]))
    block = bytearray(kind.ljust(1216, data.draw(st.sampled_from([b"\0", b"\xff", b"\xa5"]))))
    for at, value in data.draw(st.lists(st.tuples(st.integers(3, 1199), st.binary(max_size=99)))):
        block[at : at + len(value)] = value
    block = block[:1216]
    made = APP.ljust(SECTOR, b"\xff") + bytes(block)
    sbv2.blocks(made, len(APP))
    if len(block) == 1216:
        assert not any(b.good for b in sbv2.blocks(with_crc(made), len(APP)))


@pytest.mark.parametrize("what", ["magic", "data", "checksum", "hash", "cut"])
def test_bad_images(command, keys, what):
    """A good signature of a bad image helps nothing."""
    data = images.corrupt(APP, what)
    code, out, _ = command(data)
    assert code == 1
    assert "a device refuses this file" in out


# Encrypted images


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_encrypted(command, keys, all_signed, kind):
    data = encfiles.write(all_signed, key_files.load_public(keys.public(kind)))
    key = keys.private(kind)
    code, out, _ = command(data, "--decrypt-key", key, "--trusted", keys.digests["rsa"])
    assert code == 0
    assert "the key opens it" in out
    assert "by the trusted key" in out
    code, out, _ = command(data, "--decrypt-key", key, "--trusted", "0" * 64)
    assert code == 1
    assert "is not trusted" in out


def test_encrypted_by_hmac_key(command, tmp_path):
    key = tmp_path / "hmac.bin"
    assert cli.main(["keygen", "encrypt-p256", "--hmac-key", "-o", str(key)]) == 0
    data = encfiles.write(APP, key_files.load_public(tmp_path / "hmac.pub.pem"))
    assert command(data, "--decrypt-key", key)[0] == 0
    assert command(data, "--decrypt-key", tmp_path / "hmac.scalar.bin")[0] == 0


def test_encrypted_without_a_key(command, keys):
    data = encfiles.write(APP, key_files.load_public(keys.public("p256")))
    code, out, _ = command(data)
    assert code == 1
    assert "it is encrypted: expected a plain image, as there is no --decrypt-key" in out


def test_plain_with_a_key(command, keys):
    """A device that decrypts takes nothing else."""
    code, out, _ = command(APP, "--decrypt-key", keys.private("p256"))
    assert code == 1
    assert "not an encrypted image: expected first bytes cfb68807, came e9" in out


def test_encrypted_and_changed(command, keys):
    data = encfiles.write(APP, key_files.load_public(keys.public("rsa")))
    code, out, _ = command(
        changed(data, 3000, data[3000] ^ 1), "--decrypt-key", keys.private("rsa")
    )
    assert code == 1
    assert "the key does not open it" in out


def test_encrypted_but_no_image(command, keys):
    data = encfiles.write(b"test file\n", key_files.load_public(keys.public("rsa")))
    code, out, _ = command(data, "--decrypt-key", keys.private("rsa"))
    assert code == 1
    assert "expected 24 bytes, came 10" in out


# What can't be done


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--trusted", "12ab"], "12ab: expected 64 hex digits or the file of a public key (PEM)"),
        (
            ["--trusted", "{bad}/rsa2048.pub.pem"],
            "is RSA-3072 or P-256 or P-384, this one is RSA-2",
        ),
        (["--trusted", "{bad}/p192.pub.pem"], "this one is P-192"),
        (
            ["--trusted", "{bad}/p192.pem"],
            "{bad}/p192.pem is a private key: expected the public one",
        ),
        (
            ["--trusted", "{bad}/damaged.pub.pem"],
            "damaged.pub.pem: the public key in it is damaged",
        ),
        (["--trusted", "{bad}"], "cannot read {bad}: Is a directory"),
        (
            ["--decrypt-key", "{bad}/rsa2048.pem"],
            "rsa2048.pem: a key for encrypted images is RSA-30",
        ),
        (["--decrypt-key", "{bad}/none"], "cannot read {bad}/none: No such file"),
    ],
)
def test_keys_that_are_refused(command, bad_keys, args, words):
    code, out, err = command(APP, *[a.format(bad=bad_keys) for a in args])
    assert (code, out) == (2, "")
    assert words.format(bad=bad_keys) in err


def test_a_file_that_is_not_there(capsys):
    assert cli.main(["verify", "no-such.bin"]) == 2
    assert "cannot read no-such.bin: No such file" in capsys.readouterr().err


def test_a_script_can_call_it(keys, signed):
    report = verify.verify(signed["rsa"], [keys.digests["rsa"]])
    assert report.valid
    assert report.image.desc.version == "1.0.0"
    assert report.checks[-1].verdict is image.Verdict.VALID
    assert verify.key_digest(str(keys.public("rsa"))) == keys.digests["rsa"]
    assert set(SCHEMES) == set(NAMES)
