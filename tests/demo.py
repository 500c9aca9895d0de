"""The demonstration behind `make demo`: updates of a SIM board over TLS from a real nginx."""

import contextlib
import io
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import certs  # noqa: E402  they are found only now
import images  # noqa: E402
import servers  # noqa: E402
from board import Board  # noqa: E402

from https_ota_tools import cli, keys, mkflash, partition, sbv2  # noqa: E402

WORK = ROOT / "build" / "demo"

STATUS = """
import https_ota
from esp32 import Partition
names = {https_ota.PENDING_VERIFY: "PENDING_VERIFY", https_ota.VALID: "VALID"}
version = https_ota.running_info().version
slot = Partition(Partition.RUNNING).info()[4]
print("  running: %s from %s, %s" % (version, slot, names.get(https_ota.state())))
"""
# main.py of an application: what runs at each start.
MAIN = """
import https_ota, machine
if machine.reset_cause() == machine.HARD_RESET:
    exec(STATUS)
    https_ota.confirm()
    exec(STATUS)
else:
    https_ota.update(URL, cadata=open("ca.pem").read(), progress=https_ota.bar)
    machine.reset()
"""


def app(version: str) -> bytes:
    """Return the demo application, compiled once."""
    path = WORK / f"app-{version}.bin"
    if not path.exists():
        path.write_bytes(images.demo_app(version))
    return path.read_bytes()


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def update(url: str, options: str = "") -> str:
    """Return an update as a user types it at the REPL."""
    return f"import https_ota\nhttps_ota.update({url!r}, cadata=open('ca.pem').read(){options})\n"


def refused(board: Board, url: str, code_name: str, options: str = "") -> None:
    """Show an update that must fail."""
    say(f"{url.rpartition('/')[2]} is refused")
    message = board.fail(update(url, options))
    print("  " + message)
    expect(f"OTAError: {code_name}: ", message)


def make_trusted(www: Path) -> str:
    """Make keys, sign and encrypt with them as a user does; return the options of the board's update."""
    shutil.rmtree(WORK / "keys", ignore_errors=True)
    (WORK / "keys").mkdir()
    for kind, name in (("sign-p256", "release"), ("encrypt-rsa3072", "device")):
        tool("keygen", kind, "-o", f"keys/{name}.pem")
    for version, secure_version, name in (("1.3.0", 1, "update"), ("1.2.9", 0, "older")):
        image = images.app_image(
            size=200_000, version=version, secure_version=secure_version, project="demo"
        )
        (WORK / f"{name}-plain.bin").write_bytes(image)
        tool("sign", f"{name}-plain.bin", "--key", "keys/release.pem", "-o", f"{name}-signed.bin")
        tool(
            "encrypt",
            f"{name}-signed.bin",
            "--key",
            "keys/device.pub.pem",
            "-o",
            www / f"{name}.bin",
        )
    tool("encrypt", "update-plain.bin", "--key", "keys/device.pub.pem", "-o", www / "unsigned.bin")
    flipped = bytearray((www / "update.bin").read_bytes())
    flipped[-100] ^= 1  # of the signature sector, which the image's own checksum does not cover
    (www / "flipped.bin").write_bytes(flipped)
    digest = sbv2.key_digest(keys.load_public(WORK / "keys" / "release.pub.pem"))
    print(f"  trusted key {digest}")
    return (
        ", decrypt=https_ota.EncryptedImage(rsa_key=open('keys/device.pem').read())"
        f", trusted_keys={digest!r}"
    )


def tool(*args: object) -> None:
    """Run the `https-ota` command in the demo's folder."""
    with contextlib.chdir(WORK), contextlib.redirect_stdout(io.StringIO()) as said:
        code = cli.main([str(a) for a in args])
    if code:
        sys.exit(f"DEMO FAILED: https-ota {args[0]}: {said.getvalue()}")


def expect(what: str, came: str) -> None:
    """End the demo unless `what` is in what came."""
    if what not in came:
        sys.exit(f"DEMO FAILED: expected {what!r}, came:\n{came}")


def show(board: Board, expected: str) -> None:
    """Power the board on and show which firmware runs."""
    status = board.run(STATUS)
    print(status, end="", flush=True)
    expect(expected, status)


def main() -> None:
    """Run the demo."""
    WORK.mkdir(parents=True, exist_ok=True)
    www = WORK / "www"
    www.mkdir(exist_ok=True)

    say("a CA, a server certificate, and firmware images of more than 1 MB")
    root = certs.root()
    (WORK / "ca.pem").write_bytes(root.pem)
    for version in ("1.1.0", "1.2.0"):
        (www / f"app-{version}.bin").write_bytes(app(version))
        print(f"  app-{version}.bin: {len(app(version))} bytes")
    corrupt = bytearray(app("1.2.1"))
    corrupt[700_000] ^= 1
    (www / "corrupt.bin").write_bytes(corrupt)
    (www / "esp32s3.bin").write_bytes(images.app_image(chip_id=images.CHIP_IDS["esp32s3"]))

    say("an ESP32-C3 made of files: partition table, 1.0.0 in ota_0, TLS input buffer of 4 KiB")
    table = partition.read_csv(partition.default_csv(4 << 20).read_text(), "table")
    board = Board(WORK / "flash.bin", "sim-tls4k")
    board.flash.write_bytes(mkflash.make_flash(app("1.0.0"), table, 4 << 20))
    show(board, "1.0.0 from ota_0, VALID")

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(servers.Nginx(www, root.server()))
        url = server.url("app-1.1.0.bin")
        say(f"https_ota.update({url!r}, ...), machine.reset(), https_ota.confirm()")
        done = board.start(f"STATUS, URL = {STATUS!r}, {url!r}\n{MAIN}", capture=False)
        if done.returncode:
            sys.exit("DEMO FAILED: the update did not end well")
        requests = server.requests()
        if {r.status for r in requests} != {206} or len({r.connection for r in requests}) != 1:
            sys.exit("DEMO FAILED: expected ranged requests on one connection")
        print(f"  nginx answered {len(requests)} requests for ranges on one connection")
        say("power off and on: the update is confirmed and stays")
        show(board, "1.1.0 from ota_1, VALID")

        say("an update to 1.2.0 that nobody confirms")
        board.run(update(server.url("app-1.2.0.bin")))
        show(board, "1.2.0 from ota_0, PENDING_VERIFY")
        say("power off and on: the bootloader goes back")
        show(board, "1.1.0 from ota_1, VALID")

        refused(board, server.url("app-1.2.0.bin"), "FAILED_BEFORE")
        refused(board, server.url("corrupt.bin"), "CHECKSUM")
        refused(board, server.url("esp32s3.bin"), "CHIP")
        show(board, "1.1.0 from ota_1, VALID")

        say(
            "an image that is signed (ECDSA P-256) and then encrypted (RSA-3072), with secure version 1"
        )
        options = make_trusted(www)
        board.run(update(server.url("update.bin"), options))
        board.run("import https_ota; https_ota.confirm()")
        show(board, "1.3.0 from ota_0, VALID")
        refused(board, server.url("flipped.bin"), "TAG", options)
        refused(board, server.url("unsigned.bin"), "UNSIGNED", options)
        refused(board, server.url("older.bin"), "SECURE_VERSION", options)
        show(board, "1.3.0 from ota_0, VALID")
    print("\nDEMO OK")


if __name__ == "__main__":
    main()
