"""Updates whose image proves itself: signed, encrypted, pinned, and not older than allowed."""

import base64
import hashlib
import os
import shutil

import encfiles
import images
import keyfiles
import pytest
import servers
import simflash
from board import ABORTED, PENDING_VERIFY, VALID, Board, make_board
from board import message as board_message
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from faults import FaultServer, cut

from https_ota_tools import sbv2

CUT = 75
SLOT = 0x190000
PLAIN = images.app_image(size=84_000, version="2.0.0", seed=9)


def signed(keys, *kinds, image=PLAIN):
    """The image with a signature block of each kind."""
    return sbv2.sign(image, [load(keys, kind) for kind in kinds])


def load(keys, kind):
    return load_pem_private_key(keys.private(kind).read_bytes(), None)


def sealed(keys, kind, contents):
    """An encrypted image for one of the keys."""
    return encfiles.write(contents, load_pem_public_key(keys.public(kind).read_bytes()))


def code(url, *, decrypt=None, **options):
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    if "cadata" not in options and "insecure" not in options:
        given += ", cadata=open('ca.pem').read()"
    if decrypt:
        given += f", decrypt={decrypt}"
    return f"import https_ota\nprint(https_ota.update({url!r}{given}))"


def refuse(board, url, **options):
    before = board.running()
    message = board.fail(code(url, **options))
    assert board.running() == before, "the boot selection changed"
    return message


def slot(board, n):
    return board.flash.read_bytes()[SLOT : SLOT + n]


# -- signatures


@pytest.mark.parametrize("kind", keyfiles.KINDS)
def test_signed_update(any_board, keys, www, nginx, kind):
    image = signed(keys, kind)
    (www / "app.bin").write_bytes(image)
    any_board.run(code(nginx.url("app.bin"), trusted_keys=keys.digests[kind]))
    assert slot(any_board, len(image)) == image
    assert any_board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


def test_signed_update_through_a_large_buffer(board, keys, www, nginx):
    (www / "app.bin").write_bytes(signed(keys, "p256"))
    text = code(nginx.url("app.bin"), trusted_keys=keys.digests["p256"])
    board.run(text.replace("trusted_keys", "buffer=bytearray(16384), trusted_keys"))
    assert board.running().version == "2.0.0"


def test_one_block_of_several_will_do(board, keys, www, nginx):
    (www / "app.bin").write_bytes(signed(keys, "rsa", "p256", "p384"))
    trusted = ["00" * 32, keys.digests["p384"]]
    board.run(code(nginx.url("app.bin"), trusted_keys=trusted))
    assert board.running().version == "2.0.0"


def test_what_is_not_signed_right(any_board, keys, www, nginx):
    url = nginx.url("app.bin")
    image = signed(keys, "p256")
    sector = len(image) - 4096
    cases = {
        "UNSIGNED": (PLAIN, "p256"),
        "UNKNOWN_KEY": (image, "p384"),
        "SIGNATURE_BLOCK": (flip(image, sector + 40), "p256"),
        # The descriptor's date; checksum and SHA-256 are made anew, so the image alone is right.
        "SIGNATURE": (reseal(image, 0x80), "p256"),
    }
    for name, (data, kind) in cases.items():
        (www / "app.bin").write_bytes(data)
        message = refuse(any_board, url, trusted_keys=keys.digests[kind])
        assert message.startswith(f"OTAError: {name}: "), message


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def reseal(image, at):
    """The signed image with a bit turned over and everything but the signature made right."""
    whole = images.seal(flip(image, at))
    return whole + image[len(whole) :]


@pytest.mark.parametrize("aio", [False, True])
def test_key_of_the_running_firmware(tmp_path, root, keys, www, nginx, aio):
    """What ESP-IDF calls signed apps without secure boot; whose block comes behind the first is no matter."""
    url = nginx.url("app.bin")
    board = make_board(tmp_path, root, "sim")

    def text(**options):
        return board.code(url, aio=aio, **options)

    def refuse(**options):
        before = board.running()
        message = board.fail(text(**options))
        assert board.running() == before, "the boot selection changed"
        return message

    # "p256" is whoever can fetch a release: he signs it as well, and any block has the right CRC.
    (www / "app.bin").write_bytes(signed(keys, "rsa", "p256"))
    message = refuse(trusted_keys="running")
    assert message.startswith('OTAError: UNSIGNED: trusted_keys="running"')
    # The first signed firmware comes by cable, or by its digest.
    board.run(text(trusted_keys=keys.digests["rsa"]))
    assert board.running().version == "2.0.0"
    # That start was not confirmed.
    board.run(text(trusted_keys=keys.digests["rsa"], retry_failed=True))
    board.run("import https_ota; https_ota.confirm()")
    later = images.app_image(size=50_000, version="3.0.0", seed=7)
    for kinds in (("p384",), ("p256",), ("p256", "rsa"), ("p256", "p384", "rsa")):
        (www / "app.bin").write_bytes(signed(keys, *kinds, image=later))
        assert "UNKNOWN_KEY: block 0: " in refuse(trusted_keys="running")
    (www / "app.bin").write_bytes(signed(keys, "rsa", "p384", image=later))
    board.run(text(trusted_keys="running"))
    assert board.running().version == "3.0.0"
    # Not confirmed. Another key takes over by its name.
    later = images.app_image(size=45_000, version="3.1.0", seed=7)
    (www / "app.bin").write_bytes(signed(keys, "p384", image=later))
    board.run(text(trusted_keys=["running", keys.digests["p384"]]))
    board.run("import https_ota; https_ota.confirm()")
    last = images.app_image(size=40_000, version="4.0.0", seed=7)
    (www / "app.bin").write_bytes(signed(keys, "rsa", image=last))
    assert "UNKNOWN_KEY" in refuse(trusted_keys="running")
    (www / "app.bin").write_bytes(signed(keys, "p384", image=last))
    board.run(text(trusted_keys="running"))
    assert board.running().version == "4.0.0"


def test_data_and_the_key_of_the_running_firmware(tmp_path, root, keys, www, nginx):
    """A file of data tells nobody whom to trust: any block of that key will do, none of another."""
    running = signed(keys, "rsa", "p256", image=images.app_image())
    board = Board(simflash.make_flash(tmp_path / "flash.bin", running))
    (tmp_path / "ca.pem").write_bytes(root.pem)
    data = os.urandom(8192)
    for kinds, good in ((("p256", "rsa"), True), (("rsa",), True), (("p256",), False)):
        blocks = sbv2.sign_data(data, [load(keys, kind) for kind in kinds])
        (www / "app.bin").write_bytes(data + blocks.ljust(4096, b"\xff"))
        text = "from https_ota import data\ndata._mounted = lambda label: False\n"
        text += code(nginx.url("app.bin"), partition="vfs", trusted_keys="running", resume=False)
        done = board.start(text)
        assert (done.returncode == 0) == good, done.stderr
        assert good or "UNKNOWN_KEY" in done.stderr


def test_signature_that_another_update_left_behind(board, keys, www, nginx):
    """The same image without its signature, over the one that had it: what is behind the file does not count."""
    url = nginx.url("app.bin")
    image = signed(keys, "p256")
    (www / "app.bin").write_bytes(image)
    board.run(code(url, trusted_keys=keys.digests["p256"]))
    assert [board.running().version for _ in range(2)] == ["2.0.0", "1.0.0"]
    (www / "app.bin").write_bytes(PLAIN)
    options = {"trusted_keys": keys.digests["p256"], "retry_failed": True}
    assert "UNSIGNED" in refuse(board, url, **options)
    # All of it was there, but for what makes it start.
    assert slot(board, len(image)) == b"\xff" * 32 + image[32:]


def test_slot_that_is_there_already_must_be_signed_too(board, keys, www, nginx):
    url = nginx.url("app.bin")
    (www / "app.bin").write_bytes(PLAIN)
    board.run(code(url))
    assert board.running().version == "2.0.0"
    # Rolled back; the slot still holds it.
    assert board.running().version == "1.0.0"
    options = {"trusted_keys": keys.digests["p256"], "retry_failed": True}
    assert "UNSIGNED" in refuse(board, url, **options)


# -- encryption


@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("request_size", [None, 0, 2000])
def test_encrypted_update(tmp_path, root, keys, www, nginx, kind, request_size):
    build = "sim" if request_size == 0 else "sim-tls4k"
    board = make_board(tmp_path, root, build)
    (www / "app.bin").write_bytes(sealed(keys, kind, PLAIN))
    board.run(code(nginx.url("app.bin"), decrypt=keys.opener(kind), request_size=request_size))
    assert slot(board, len(PLAIN)) == PLAIN
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


def test_encrypted_update_from_a_server_without_a_length(board, keys, www, root):
    (www / "app.bin").write_bytes(sealed(keys, "p256", PLAIN))
    with servers.OpenSSLServer(www, root.server()) as server:
        url = server.url("app.bin")
        board.run(code(url, decrypt=keys.opener("p256"), timeout_s=servers.SILENT_S))
    assert slot(board, len(PLAIN)) == PLAIN


def test_encrypted_file(board, keys):
    (board.flash.parent / "app.enc").write_bytes(sealed(keys, "p256", PLAIN))
    board.run(
        f"import https_ota\nhttps_ota.update(open('app.enc', 'rb'), decrypt={keys.opener('p256')})"
    )
    assert board.running().version == "2.0.0"


def test_own_format(board, nginx, www):
    (www / "app.bin").write_bytes(b"XOR!" + bytes(c ^ 0x5A for c in PLAIN))
    own = """
class Mine:
    header_size = 4
    def begin(self, header):
        assert header == b"XOR!"
    def decrypt(self, buf, n):
        for i in range(n):
            buf[i] ^= 0x5A
    def finish(self):
        pass
    def wipe(self):
        pass
"""
    board.run(own + code(nginx.url("app.bin"), decrypt="Mine()"))
    assert slot(board, len(PLAIN)) == PLAIN


def test_what_is_not_encrypted_right(any_board, keys, www, nginx):
    url = nginx.url("app.bin")
    for kind in ("rsa", "p256"):
        data = sealed(keys, kind, PLAIN)
        other = "p256" if kind == "rsa" else "rsa"
        cases = {
            "NOT_ENCRYPTED": PLAIN,
            "DECRYPT_KEY": sealed(keys, other, PLAIN),
            "TAG": flip(data, 408),
            # The checksum is passed before the tag's time comes.
            "CHECKSUM": flip(data, 512 + 50_000),
            "TRUNCATED": data[:-100],
            "SIZE": data + bytes(100),
        }
        for name, sent in cases.items():
            (www / "app.bin").write_bytes(sent)
            message = refuse(any_board, url, decrypt=keys.opener(kind))
            # A wrong key on P-256 shows as what comes out of it.
            assert message.startswith(f"OTAError: {name}: "), (kind, message)


def test_key_is_not_told(board, keys, www, nginx):
    (www / "app.bin").write_bytes(PLAIN)
    done = board.start(code(nginx.url("app.bin"), decrypt=keys.opener("p256")))
    scalar = load(keys, "p256").private_numbers().private_value
    said = done.stdout + done.stderr
    assert "NOT_ENCRYPTED" in said
    assert f"{scalar:064x}" not in said


@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("request_size", [0, 1000, 4096])
def test_encrypted_update_goes_on_after_a_reset(board, keys, kind, request_size):
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    data = sealed(keys, kind, large)
    with FaultServer(data, {}) as server:
        text = code(
            server.url("app.bin"),
            decrypt=keys.opener(kind),
            insecure=True,
            request_size=request_size,
            progress="PROGRESS",
        ).replace("'PROGRESS'", "lambda done, total: log.append(done)")
        text = "log = []\n" + text
        assert board.start(text, SIM_CUT="120").returncode == CUT
        said = board.run(text + "\nprint(min(log))")
        assert int(said.split()[-1]) > 131_072
        # The last one that says all: those that follow it need not.
        assert b"If-Range" in [r for r in server.requests if b"User-Agent" in r][-1]
    assert slot(board, len(large)) == large
    assert board.running().version == "2.0.0"


def test_flash_changed_between_the_two_halves(board, keys):
    """What is replayed is compared first: the update starts over and ends well."""
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    with FaultServer(sealed(keys, "p256", large), {}) as server:
        options = {"decrypt": keys.opener("p256"), "insecure": True}
        text = code(server.url("app.bin"), **options)
        assert board.start(text, SIM_CUT="120").returncode == CUT
        flash = bytearray(board.flash.read_bytes())
        flash[SLOT + 50_000] ^= 0x10
        board.flash.write_bytes(flash)
        board.run(text)
    assert slot(board, len(large)) == large


def test_same_image_encrypted_anew(board, keys):
    """Another header and ETag: nothing of the first half's keys may be used for the second."""
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    with FaultServer(sealed(keys, "p256", large), {}) as server:
        text = code(server.url("app.bin"), decrypt=keys.opener("p256"), insecure=True)
        assert board.start(text, SIM_CUT="120").returncode == CUT
        server.data, server.etag = sealed(keys, "p256", large), '"v2"'
        board.run(text)
    assert slot(board, len(large)) == large


def test_encrypted_download_that_drops(board, keys):
    """In the header, at its end, in the middle of an AES block, before the last byte."""
    data = sealed(keys, "rsa", PLAIN)
    start = board.flash.read_bytes()
    for at in (100, 512, 513, 5000, 40_001, len(data) - 1):
        board.flash.write_bytes(start)
        with FaultServer(data, {1: cut(70 + at)}) as server:
            options = {"decrypt": keys.opener("rsa"), "insecure": True, "resume": False}
            board.run(code(server.url("app.bin"), **options))
        assert slot(board, len(PLAIN)) == PLAIN, at


def test_power_cut_in_every_operation_of_a_signed_and_encrypted_update(
    tmp_path, root, keys, capsys
):
    """As test_every_cut.py has it for plain ones; with a record of a first half, too."""
    data = sealed(keys, "p256", signed(keys, "p256"))
    start = make_board(tmp_path, root, "sim").flash
    with FaultServer(data, {}) as server:
        url = server.url("app.bin")
        options = {"decrypt": keys.opener("p256"), "trusted_keys": keys.digests["p256"]}
        text = code(url, insecure=True, request_size=4096, **options)
        half = tmp_path / "half.bin"
        shutil.copyfile(start, half)
        assert Board(half).start(text, SIM_CUT="52").returncode == CUT
        cuts = [cut_everywhere(flash, tmp_path / "cut.bin", text) for flash in (start, half)]
    with capsys.disabled():
        print(f"\n{cuts[0]} and {cuts[1]} power cuts of a signed and encrypted update")
    # 22 sectors, of which 16 are done in the second half; what NVS keeps is a little more than for a plain one.
    assert cuts[0] > 3 * 22 > cuts[1] > 2 * 6


def cut_everywhere(start, flash, text):
    n = 0
    while True:
        n += 1
        shutil.copyfile(start, flash)
        board = Board(flash)
        done = board.start(text, SIM_CUT=str(n))
        if done.returncode == 0:
            return n - 1
        assert done.returncode == CUT, f"cut {n}: {done.stdout}{done.stderr}"
        running = board.running()
        if running.version == "2.0.0":
            assert running.state == PENDING_VERIFY
            continue
        assert running == ("1.0.0", "ota_0", VALID), f"cut {n}"
        board.run(text)
        assert board.running().version == "2.0.0", f"cut {n}"


def test_any_flipped_byte_of_a_signed_and_encrypted_file(board, keys, www):
    """Sampled over the whole file; the reserved bytes of header and sector are nobody's."""
    image = signed(keys, "p256", image=images.app_image(size=9_000, version="2.0.0"))
    data = sealed(keys, "p256", image)
    sector = 512 + len(image) - 4096
    places = [*range(0, 100, 7), *range(388, 424, 5), *range(512, sector, 997)]
    places += range(sector, sector + 165, 13)
    (board.flash.parent / "app.enc").write_bytes(data)
    before = board.boots_from()
    said = board.run(f"""
import https_ota
data = bytearray(open("app.enc", "rb").read())
class File:
    def __init__(self):
        self.at = 0
    def readinto(self, buf):
        part = data[self.at : self.at + len(buf)]
        buf[: len(part)] = part
        self.at += len(part)
        return len(part)
for at in {places}:
    data[at] ^= 0x04
    try:
        https_ota.update(File(), decrypt={keys.opener("p256")}, trusted_keys={keys.digests["p256"]!r})
    except https_ota.OTAError as e:
        pass
    else:
        print("taken:", at)
    data[at] ^= 0x04
""")
    assert said == ""
    assert board.boots_from()[:32] == before[:32]
    assert board.running() == ("1.0.0", "ota_0", VALID)


# -- pins


def test_pinned_server(any_board, www, root):
    identity = root.server()
    spki = identity.cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pins = {
        "certificate": hashlib.sha256(identity.der).hexdigest(),
        "key": "sha256//" + base64.b64encode(hashlib.sha256(spki).digest()).decode(),
    }
    with servers.Nginx(www, identity) as server:
        url = server.url("app.bin")
        # Without a CA, and with a clock that was never set.
        any_board.run(code(url, pin=pins["key"], cadata=None), SIM_CLOCK="unset")
        any_board.run("import https_ota; https_ota.confirm()")
        assert any_board.running() == ("2.0.0", "ota_1", VALID)
        any_board.run(code(url, pin=["00" * 32, pins["certificate"]], resume=False))
        assert any_board.running().slot == "ota_0"
        message = refuse(any_board, url, pin="00" * 32)
        assert message.startswith("OTAError: CERT_PIN: localhost is none of the pinned servers")
        for digest in (hashlib.sha256(d).hexdigest() for d in (identity.der, spki)):
            assert digest in message
        # Both must hold.
        assert "CERT_CA" in refuse(any_board, url, pin=pins["key"], cadata=root_of_others())


def root_of_others():
    import certs

    return certs.root().pem


def test_nothing_is_sent_to_a_server_that_is_not_pinned(board, www, root):
    with servers.Nginx(www, root.server()) as server:
        refuse(board, server.url("app.bin"), pin="00" * 32, cadata=None)
        assert not server.requests()


def test_pin_holds_for_where_a_redirect_leads(board, www, root):
    first, second = root.server(), root.server()
    pin = hashlib.sha256(first.der).hexdigest()
    with servers.Nginx(www, second) as other:
        with servers.RedirectServer(first, {"/x": other.url("app.bin")}) as server:
            message = refuse(board, server.url("x"), pin=pin)
        assert "CERT_PIN" in message
        assert not other.requests()


def test_pin_without_tls(board, www):
    with servers.Nginx(www) as server:
        message = refuse(board, server.url("app.bin"), pin="00" * 32, insecure=True)
    assert message.startswith("ValueError: http:// is neither encrypted nor verified")


# -- older ones


def test_secure_version(any_board, www, nginx):
    """Once confirmed, nothing below it is taken, whichever firmware runs."""
    url = nginx.url("app.bin")

    def serve(secure_version, version):
        image = images.app_image(
            size=30_000, version=version, secure_version=secure_version, seed=secure_version
        )
        (www / "app.bin").write_bytes(image)
        # nginx makes the ETag of size and second.
        os.utime(www / "app.bin", (secure_version, secure_version))

    serve(2, "2.0.0")
    any_board.run(code(url))
    # Not confirmed: the board goes back, and the floor was not raised.
    assert any_board.running().version == "2.0.0"
    assert any_board.running().version == "1.0.0"
    serve(1, "1.5.0")
    any_board.run(code(url))
    assert any_board.running().version == "1.5.0"
    serve(2, "2.0.0")
    any_board.run(code(url, retry_failed=True))
    any_board.run("import https_ota; https_ota.confirm()")
    assert any_board.running() == ("2.0.0", "ota_1", VALID)
    for board_runs in ("2.0.0", "1.0.0"):
        serve(1, "2.0.1")
        message = refuse(any_board, url)
        assert message.startswith(
            "OTAError: SECURE_VERSION: the image has secure version 1, this board takes 2"
        )
        assert any_board.running().version == board_runs
        any_board.start("import https_ota; https_ota.rollback()", timeout_s=20)


def test_newer_only(board, www, nginx):
    url = nginx.url("app.bin")
    text = code(url, check="CHECK").replace("'CHECK'", "https_ota.newer_only")
    for version, seed, said in (
        ("1.0.0", 1, "None\n"),
        ("0.9.9", 2, "OTAError: VERSION"),
        ("1.0.1", 3, "<test 1.0.1"),
    ):
        (www / "app.bin").write_bytes(images.app_image(size=30_000, version=version, seed=seed))
        done = board.start(text)
        last = board_message(done.stdout + done.stderr) + "\n"
        assert last.startswith(said), last
    assert board.running().version == "1.0.1"
    assert board.running().state != ABORTED
