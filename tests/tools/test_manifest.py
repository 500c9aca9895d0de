"""`https-ota manifest`: what it makes, what it refuses to make, and what it finds wrong."""

import datetime
import hashlib
import json
import re
import urllib.parse

import encfiles
import images
import pytest
import servers
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st
from keyfiles import KINDS, NAMES, espsecure

from https_ota_tools import authority, cli, delta, packed, release, sbv2, serve
from https_ota_tools import keys as key_files
from https_ota_tools.errors import ToolError

APP = images.app_image(size=6000, version="1.4.0")
BLOCK = 1216


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Returns a function that runs the command in tmp_path, and returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def command(*args):
        code = cli.main(["manifest", *map(str, args)])
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def signed_app(tmp_path, keys):
    """app.bin, signed with the key for P-256."""
    key = load_pem_private_key(keys.private("p256").read_bytes(), None)
    data = sbv2.sign(APP, [key])
    (tmp_path / "app.bin").write_bytes(data)
    return data


def make(command, keys, *args, name="m.json", number=7, kind="p256"):
    """Make a signed manifest of app.bin and return what is in it."""
    done = command(
        *(
            "--file",
            "app.bin",
            "--release",
            number,
            "--sign",
            keys.private(kind),
            "-o",
            name,
            *args,
        )
    )
    assert done[0] == 0, done[2]
    return done[1]


def refuse(command, *args):
    code, out, err = command(*args)
    assert (code, out) == (2, ""), out
    return err


# -- making


def test_manifest(command, tmp_path, keys, signed_app):
    out = make(
        *(command, keys, "--min-version", "1.2", "--rollout", 10, "--notes", "Better.\n"),
        *("--url-prefix", "https://cdn.example/v7/"),
    )
    data = (tmp_path / "m.json").read_bytes()
    found = json.loads(data)
    expires = release.parse(data).expires
    days = expires - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(59, 86000) < days <= datetime.timedelta(60)
    assert found.pop("expires") == expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    age = datetime.datetime.now(datetime.UTC).timestamp() - found["serial"]
    assert 0 <= age < 60
    assert found == {
        "release": 7,
        "serial": found["serial"],
        "version": "1.4.0",
        "min_version": "1.2",
        "rollout": 10,
        "notes": "Better.\n",
        "files": [
            {
                "chip": "ESP32-C3",
                "url": "https://cdn.example/v7/app.bin",
                "size": len(signed_app),
                "sha256": hashlib.sha256(signed_app).hexdigest(),
                "elf_sha256": signed_app[0xB0:0xD0].hex(),
            }
        ],
    }
    lines = out.splitlines()
    assert (
        lines[0]
        == f"m.json: release 7, serial {found['serial']}, version 1.4.0, {len(data)} bytes, for 10 % of the boards"
    )
    assert lines[1] == f"m.json.sig: block 0: P-256, key digest {keys.digests['p256']}"


@pytest.mark.parametrize("kind", KINDS)
def test_espsecure_accepts_the_signature(command, tmp_path, keys, signed_app, kind):
    """Of a manifest that fills a sector, as espsecure reads nothing else."""
    make(command, keys, kind=kind)
    data = (tmp_path / "m.json").read_bytes()
    signature = (tmp_path / "m.json.sig").read_bytes()
    assert len(signature) == BLOCK
    padded = data.ljust(4096, b" ")
    key = load_pem_private_key(keys.private(kind).read_bytes(), None)
    (tmp_path / "all").write_bytes(padded + sbv2.sign_data(padded, [key]).ljust(4096, b"\xff"))
    espsecure(
        *("verify-signature", "--version", "2", "--keyfile", keys.public(kind), tmp_path / "all")
    )
    found = sbv2.data_blocks(data, signature)
    assert [(b.scheme, b.key_digest, b.problem) for b in found] == [
        (NAMES[kind], keys.digests[kind], "")
    ]


def test_fleet_of_many_kinds(command, tmp_path, keys):
    (tmp_path / "c3.bin").write_bytes(APP)
    (tmp_path / "s3.bin").write_bytes(
        images.app_image(chip_id=9, version="1.4.0", secure_version=0, size=7000)
    )
    (tmp_path / "comma,no.bin").write_bytes(APP)
    code, _, err = command(
        *("--file", "c3.bin,board=LAMP,variant=OTA", "--file", "s3.bin,url=/s3/fw.bin?x=1"),
        *("--file", "comma,no.bin", "--release", 1, "-o", "m.json", "--expires-days", 0),
    )
    assert (code, err) == (0, "")
    found = release.parse((tmp_path / "m.json").read_bytes())
    assert [(f.kind, f.url, f.size) for f in found.files] == [
        ("ESP32-C3 LAMP OTA", "c3.bin", len(APP)),
        ("ESP32-S3", "/s3/fw.bin?x=1", 7000 // 16 * 16),
        ("ESP32-C3", "comma,no.bin", len(APP)),
    ]
    assert found.expires is None and found.rollout == 100
    assert not (tmp_path / "m.json.sig").exists()


def test_encrypted(command, tmp_path, keys):
    (tmp_path / "app.bin").write_bytes(APP)
    public = load_pem_public_key(keys.public("p256").read_bytes())
    (tmp_path / "app.enc").write_bytes(encfiles.write(APP, public))
    code, _, err = command("--file", "app.bin,encrypted=app.enc", "--release", 1, "-o", "m.json")
    assert (code, err) == (0, "")
    (file,) = release.parse((tmp_path / "m.json").read_bytes()).files
    assert (file.url, file.encrypted, file.size) == ("app.enc", True, len(APP))
    assert file.sha256 == hashlib.sha256(APP).hexdigest()
    code, out, _ = command("--check", "m.json")
    assert code == 0
    assert "its SHA-256 was not checked" in out
    assert "expected an encrypted image" in refuse(
        *(command, "--file", "app.bin,encrypted=app.bin", "--release", 1, "-o", "m.json")
    )


def test_secure_version(command, tmp_path):
    (tmp_path / "app.bin").write_bytes(images.app_image(secure_version=3))
    command("--file", "app.bin", "--release", 1, "-o", "m.json")
    assert release.parse((tmp_path / "m.json").read_bytes()).secure_version == 3


def test_version_of_images_that_have_none(command, tmp_path):
    (tmp_path / "app.bin").write_bytes(images.app_image(version=""))
    arguments = ("--file", "app.bin", "--release", 1, "-o", "m.json")
    command(*arguments)
    assert release.parse((tmp_path / "m.json").read_bytes()).version == ""
    command(*arguments, "--version", "1.4.0", "--release", 2)
    assert release.parse((tmp_path / "m.json").read_bytes()).version == "1.4.0"


def test_what_can_not_be_made(command, tmp_path, keys, signed_app):
    (tmp_path / "plain.bin").write_bytes(APP)
    (tmp_path / "other.bin").write_bytes(images.app_image(chip_id=9, version="1.4.1"))
    (tmp_path / "secure.bin").write_bytes(
        images.app_image(chip_id=9, version="1.4.0", secure_version=1)
    )
    (tmp_path / "bad.bin").write_bytes(images.corrupt(APP, "data"))
    spoilt = bytearray(signed_app)
    spoilt[0x80] ^= 1
    (tmp_path / "spoilt.bin").write_bytes(images.seal(spoilt) + bytes(spoilt[len(APP) :]))
    sign = ("--sign", keys.private("p256"))
    out = ("-o", "m.json")
    one = ("--file", "app.bin", "--release", 1)
    for words, arguments in {
        "expected --release and -o": ("--file", "app.bin", *out),
        "-o with --file": one,
        "app.bin has 1.4.0, other.bin has 1.4.1": (*one, "--file", "other.bin", *out),
        "app.bin has 1.4.0, --version has 2.0": (*one, "--version", "2.0", *out),
        "one secure version": (*one, "--file", "secure.bin", *out),
        "bad.bin: the application can't be used": ("--file", "bad.bin", "--release", 1, *out),
        "spoilt.bin: signature block 0": ("--file", "spoilt.bin", "--release", 1, *out),
        "plain.bin is not signed": ("--file", "plain.bin", "--release", 1, *out, *sign),
        "for the same boards": (*one, "--file", "plain.bin", *out),
        "cannot read no.bin": ("--file", "no.bin", "--release", 1, *out),
        "release: expected 1 to 2147483647, came 0": ("--file", "app.bin", "--release", 0, *out),
        "rollout: expected 0 to 100": (*one, "--rollout", 101, *out),
        "min_version: expected": (*one, "--min-version", "latest", *out),
        "url: 'a b.bin' must": ("--file", "app.bin,url=a b.bin", "--release", 1, *out),
        "--expires-days: expected": (*one, "--expires-days", -1, *out),
        "a board reads up to 8192": (*one, "--notes", "x" * 8000, *out),
        "is given twice": (*one, *sign, *sign, *out),
        "expected 1 to 3 keys": (
            *(*one, *out, *sign, "--sign", keys.private("rsa"), "--sign", keys.private("p384")),
            *("--sign", new_key(keys)),
        ),
        "is a key of this command": (*one, *sign, "-o", keys.private("p256")),
    }.items():
        assert words in refuse(command, *arguments), words
        assert not (tmp_path / "m.json").exists(), words
    assert "PRIVATE KEY" in keys.private("p256").read_text()


def new_key(keys):
    keys.make("p256-manifest", "ecdsa256")
    return keys.private("p256-manifest")


def test_unsigned_images_when_asked_for(command, tmp_path, keys):
    (tmp_path / "app.bin").write_bytes(APP)
    make(command, keys, "--unsigned-images")


@pytest.mark.parametrize("arguments", [(), ("--check", "m.json", "--update", "m.json")])
def test_one_thing_at_a_time(command, arguments):
    with pytest.raises(SystemExit, match="2"):
        command(*arguments)


def test_unknown_word_about_a_file(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        command("--file", "app.bin,colour=X", "--release", 1, "-o", "m.json")
    assert "colour=: expected board, variant, url, encrypted" in capsys.readouterr().err


def test_release_can_not_go_back(command, tmp_path, keys, signed_app):
    make(command, keys)
    make(command, keys)
    make(command, keys, number=8)
    before = (tmp_path / "m.json").read_bytes()
    arguments = ("--file", "app.bin", "-o", "m.json", "--sign", keys.private("p256"))
    err = refuse(command, *arguments, "--release", 7)
    assert "expected --release 9 or more" in err
    (tmp_path / "app.bin").write_bytes(images.app_image(version="1.5.0"))
    err = refuse(command, *arguments, "--release", 8, "--unsigned-images")
    assert "expected --release 9 or more" in err
    assert (tmp_path / "m.json").read_bytes() == before


def test_manifest_that_replaces_another_has_another_size(command, tmp_path, keys, signed_app):
    """An ETag of nginx is made of time and size, and builds may set the time."""
    make(command, keys, "--rollout", 10)
    sizes = [(tmp_path / "m.json").stat().st_size]
    for rollout in (20, 30, 30):
        out = command("--update", "m.json", "--rollout", rollout, "--sign", keys.private("p256"))[
            1
        ]
        sizes.append((tmp_path / "m.json").stat().st_size)
        assert f", {sizes[-1]} bytes, " in out
        assert command("--check", "m.json")[0] == 0
    assert sizes[0] != sizes[1] != sizes[2] == sizes[3]


def test_unsigned_manifest_beside_an_old_signature(command, keys, signed_app):
    make(command, keys)
    err = refuse(command, "--file", "app.bin", "--release", 8, "-o", "m.json")
    assert "m.json.sig would not fit" in err


# -- changing


def test_rollout_grows(command, tmp_path, keys, signed_app):
    make(command, keys, "--rollout", 10, "--notes", "n")
    old = json.loads((tmp_path / "m.json").read_bytes())
    old["later"] = {"unknown": [1, 2]}
    data = json.dumps(old).encode()
    (tmp_path / "m.json").write_bytes(data)
    key = load_pem_private_key(keys.private("p256").read_bytes(), None)
    (tmp_path / "m.json.sig").write_bytes(sbv2.sign_data(data, [key]))
    code, out, _ = command("--update", "m.json", "--rollout", 50, "--sign", keys.private("p256"))
    assert code == 0
    assert "for 50 % of the boards" in out
    changed = json.loads((tmp_path / "m.json").read_bytes())
    serial = changed["serial"]
    assert serial > old["serial"]
    assert changed == old | {"rollout": 50, "serial": serial}
    assert command("--check", "m.json", "--trusted", keys.digests["p256"])[0] == 0
    command("--update", "m.json", "--expires-days", 7, "--sign", keys.private("p256"))
    changed = json.loads((tmp_path / "m.json").read_bytes())
    assert changed["expires"] < old["expires"]
    assert changed["serial"] > serial
    more = {name: changed[name] for name in ("expires", "serial")}
    assert changed == old | {"rollout": 50} | more


def serial_of(path):
    return release.parse(path.read_bytes()).serial


def test_each_change_has_a_higher_serial(command, tmp_path, keys, signed_app):
    """Also within a second, by whatever command, back to what was before, and to another file."""
    path = tmp_path / "m.json"
    make(command, keys, "--rollout", 50)
    marks = [release.parse(path.read_bytes()).mark]
    sign = ("--sign", keys.private("p256"))
    for change in (
        ("--rollout", 10),
        ("--rollout", 50),
        ("--rollout", 0),
        ("--notes", "stopped"),
        ("--expires-days", 9),
        ("--rollout", 50),
    ):
        assert command("--update", "m.json", *change, *sign)[0] == 0
        marks.append(release.parse(path.read_bytes()).mark)
    make(command, keys, "--rollout", 50)  # made anew from the images
    marks.append(release.parse(path.read_bytes()).mark)
    assert command("--update", "m.json", "--rollout", 20, *sign, "-o", "n.json")[0] == 0
    marks.append(release.parse((tmp_path / "n.json").read_bytes()).mark)
    assert command("--update", "m.json", "--rollout", 20, *sign, "-o", "n.json")[0] == 0
    marks.append(release.parse((tmp_path / "n.json").read_bytes()).mark)
    make(command, keys, number=8)
    marks.append(release.parse(path.read_bytes()).mark)
    assert marks == sorted(set(marks))


def test_made_anew_elsewhere_it_has_a_higher_serial(command, tmp_path, keys, signed_app):
    """What a build server makes, which has no copy of what is published."""
    made = make(command, keys) and serial_of(tmp_path / "m.json")
    now = datetime.datetime.now(datetime.UTC)
    data = release.encode({"release": 7, "version": "1", "files": []})
    later = now + datetime.timedelta(seconds=100)
    assert release.parse(release.with_serial(data, later, [])).serial > made


def test_what_says_the_same_keeps_its_serial(command, tmp_path, keys, signed_app):
    make(command, keys, "--rollout", 30)
    before = (tmp_path / "m.json").read_bytes()
    command("--update", "m.json", "--rollout", 30, "--sign", keys.private("p256"))
    assert (tmp_path / "m.json").read_bytes() == before


NOW = datetime.datetime(2026, 5, 6, tzinfo=datetime.UTC)


def raw(number, serial, **fields):
    found = {"release": number, "version": "1", "files": []} | fields
    return release.encode(found if serial is None else found | {"serial": serial})


@given(
    st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(0, (1 << 32) - 2)), max_size=3)
)
def test_serials_rise(marks):
    before = [raw(n, s, notes="old") for n, s in marks]
    made = release.parse(release.with_serial(raw(2, None), NOW, before))
    assert all(made.mark > (n, s or 0) for n, s in marks if n <= 2)
    assert made.serial == int(NOW.timestamp()) or (2, made.serial - 1) in marks


def test_no_serial_is_above_the_last():
    with pytest.raises(ToolError, match="expected a higher --release"):
        release.with_serial(raw(2, None), NOW, [raw(2, (1 << 32) - 1, notes="old")])
    made = release.with_serial(raw(3, None), NOW, [raw(2, (1 << 32) - 1)])
    assert release.parse(made).serial == int(NOW.timestamp())


def test_signature_fits_the_manifest_before_as_well(command, tmp_path, keys, signed_app):
    """Whichever of both files a board or a cache still has as it was: once the signature is out, each pair is good."""
    make(command, keys, "--rollout", 10)
    versions = [(tmp_path / "m.json").read_bytes()]
    for rollout in (20, 30, 40):
        command("--update", "m.json", "--rollout", rollout, "--sign", keys.private("p256"))
        versions.append((tmp_path / "m.json").read_bytes())
        signature = (tmp_path / "m.json.sig").read_bytes()
        assert len(signature) == 2 * BLOCK
        for data, good in ((versions[-1], 0), (versions[-2], 1)):
            assert [b.good for b in sbv2.data_blocks(data, signature)].index(True) == good
    make(command, keys, number=8)
    signature = (tmp_path / "m.json.sig").read_bytes()
    assert any(b.good for b in sbv2.data_blocks(versions[-1], signature))


def test_no_more_than_three_blocks(command, tmp_path, keys, signed_app):
    more = ("--sign", keys.private("rsa"))
    make(command, keys, *more)
    for rollout in (1, 2):
        command("--update", "m.json", "--rollout", rollout, "--sign", keys.private("p256"), *more)
        assert (tmp_path / "m.json.sig").stat().st_size == 3 * BLOCK


def test_only_what_the_key_has_signed_is_signed_again(command, tmp_path, keys, signed_app):
    make(command, keys)
    data = (tmp_path / "m.json").read_bytes()
    sign = ("--update", "m.json", "--rollout", 50, "--sign")
    assert "is not the signature of m.json" in refuse(command, *sign, keys.private("rsa"))
    (tmp_path / "m.json").write_bytes(data.replace(b"1.4.0", b"6.6.6"))
    assert "is not the signature of m.json" in refuse(command, *sign, keys.private("p256"))
    (tmp_path / "m.json").write_bytes(data)
    (tmp_path / "m.json.sig").unlink()
    assert "cannot read m.json.sig" in refuse(command, *sign, keys.private("p256"))
    assert (tmp_path / "m.json").read_bytes() == data


def test_unsigned_manifest_can_be_changed(command, tmp_path, signed_app):
    command("--file", "app.bin", "--release", 1, "-o", "m.json")
    assert command("--update", "m.json", "--rollout", 5, "-o", "n.json")[0] == 0
    assert release.parse((tmp_path / "n.json").read_bytes()).rollout == 5
    assert release.parse((tmp_path / "m.json").read_bytes()).rollout == 100


# -- checking


def checked(command, *args, code=1):
    found = command("--check", "m.json", *args)
    assert found[0] == code, found[1] + found[2]
    return found[1]


def test_check(command, tmp_path, keys, signed_app):
    make(command, keys)
    out = checked(command, "--trusted", keys.public("p256"), code=0)
    assert "this manifest can be published" in out
    for name in ("manifest", "signature", "expires", "file for ESP32-C3"):
        assert re.search(f"^{name} +valid ", out, re.MULTILINE), name
    out = checked(command, "--trusted", keys.digests["rsa"])
    assert re.search(f"^signature +invalid +.*{keys.digests['p256']} is not trusted", out, re.M)
    assert "must not be published" in out


def test_check_for_boards_that_go_by_what_runs(command, tmp_path, keys, signed_app):
    make(command, keys)
    other, own = (
        load_pem_private_key(keys.private(k).read_bytes(), None) for k in ("rsa", "p256")
    )
    running = sbv2.sign(images.app_image(size=5000), [own])
    (tmp_path / "runs.bin").write_bytes(running)
    out = checked(command, "--running", "runs.bin", code=0)
    assert f"block 0, P-256, by the trusted key {keys.digests['p256']}" in out
    # The manifest's signature may have that key in any block, the image in the first alone.
    (tmp_path / "app.bin").write_bytes(sbv2.sign(APP, [other, own]))
    make(command, keys, number=8)
    assert "it must be in block 0" in checked(command, "--running", "runs.bin")
    out = checked(command, "--trusted", keys.digests["p256"], code=0)
    assert f"block 1, P-256, by the trusted key {keys.digests['p256']}" in out
    # Someone's block behind a good one tells nothing.
    (tmp_path / "runs.bin").write_bytes(sbv2.sign(images.app_image(size=5000), [own, other]))
    make(command, keys, number=9, kind="rsa")
    assert "is not trusted" in checked(command, "--running", "runs.bin")
    (tmp_path / "runs.bin").write_bytes(APP)
    code, _, err = command("--check", "m.json", "--running", "runs.bin")
    assert code == 2
    assert "finds no key in this image: it is not signed" in err


def test_check_tells_of_images_by_other_keys(command, keys, tmp_path, signed_app):
    """No mistake by itself: boards may have image_keys=."""
    make(command, keys, kind="rsa")
    out = checked(command, "--trusted", keys.digests["rsa"], code=0)
    assert "boards refuse it, unless image_keys= says otherwise" in out


def test_check_compares_with_what_is_published(command, tmp_path, keys, signed_app, root):
    (tmp_path / "www").mkdir()
    make(command, keys, "--rollout", 10)
    old = (tmp_path / "m.json").read_bytes()
    command("--update", "m.json", "--rollout", 0, "--sign", keys.private("p256"))
    new = (tmp_path / "m.json").read_bytes()
    mark = f"release 7, serial {release.parse(new).serial}"
    other = json.loads(new) | {"rollout": 99}
    (tmp_path / "ca.pem").write_bytes(root.pem)
    with servers.Nginx(tmp_path / "www", root.server()) as server:
        for here, there, words in (
            (new, old, ""),
            (new, new, "it is this one"),
            (new, None, ""),
            (old, new, "boards that have seen that take this one for an old file"),
            (new, release.encode(other), "boards can't tell which of both is the newer one"),
            (new, b"<html>", "the manifest is no JSON"),
        ):
            (tmp_path / "m.json").write_bytes(here)
            (tmp_path / "www/m.json").unlink(missing_ok=True)
            if there is not None:
                (tmp_path / "www/m.json").write_bytes(there)
            bad = int(words not in ("", "it is this one"))
            args = ("--check", "m.json", "--published")
            code, out, _ = command(*args, server.url("m.json"), "--ca", "ca.pem")
            line = next(line for line in out.splitlines() if line.startswith("published"))
            assert ("invalid" in line) == bool(bad)
            assert words in line
            # The signature of the older one is gone: that is another check.
            assert code == 1 if bad else code == 0
            if there is not None:
                assert words in command(*args, "www/m.json")[1]
    (tmp_path / "m.json").write_bytes(new)
    assert mark in checked(command, code=0)
    for url, words in (
        (server.url("m.json?t=secret"), "/m.json: "),
        ("http://localhost/m.json", "expected https://host/path"),
    ):
        code, _, err = command("--check", "m.json", "--published", url)
        assert code == 2
        assert words in err
        assert "secret" not in err


def test_check_looks_at_files(command, tmp_path, keys, signed_app):
    make(command, keys, "--url-prefix", "fw/")
    assert "cannot read fw/app.bin" in checked(command)
    (tmp_path / "fw").mkdir()
    for words, data in {
        "expected 12288 bytes, came 12287": signed_app[:-1],
        "expected SHA-256": signed_app[:-1] + b"\0",
        "12288 bytes": signed_app,
    }.items():
        (tmp_path / "fw" / "app.bin").write_bytes(data)
        assert words in checked(command, code=0 if data == signed_app else 1)
    (tmp_path / "elsewhere").mkdir()
    assert "cannot read elsewhere/fw/app.bin" in checked(command, "--dir", "elsewhere")


def test_check_compares_the_image(command, tmp_path, signed_app):
    command("--file", "app.bin", "--release", 1, "-o", "m.json")
    found = json.loads((tmp_path / "m.json").read_bytes())
    file = found["files"][0]
    for words, change in {
        "it is for ESP32-C3, the manifest says ESP32-S3": {"files": [file | {"chip": "ESP32-S3"}]},
        "the manifest says chip id 9": {"files": [file | {"chip": 9}]},
        "expected version 2, came 1.4.0": {"version": "2"},
        "expected secure version 1, came 0": {"secure_version": 1},
        "none: no board finds one": {"files": []},
        "expected an encrypted image": {"files": [file | {"encrypted": True}]},
        "expected the ELF's SHA-256": {"files": [file | {"elf_sha256": "00" * 32}]},
        "expected SHA-256": {"files": [file | {"sha256": "00" * 32}]},
    }.items():
        (tmp_path / "m.json").write_text(json.dumps(found | change))
        assert words in checked(command), words
    for chip in ("esp32c3", "ESP32-C3", 5):
        (tmp_path / "m.json").write_text(json.dumps(found | {"files": [file | {"chip": chip}]}))
        checked(command, code=0)


def test_check_finds_an_expired_one(command, tmp_path, signed_app):
    command("--file", "app.bin", "--release", 1, "-o", "m.json")
    found = json.loads((tmp_path / "m.json").read_bytes())
    (tmp_path / "m.json").write_text(json.dumps(found | {"expires": "2026-01-01T00:00:00Z"}))
    out = checked(command, code=1)
    assert re.search("^expires +invalid +expired 2026-01-01T00:00:00Z", out, re.M)


def test_check_of_a_signature(command, tmp_path, keys, signed_app):
    make(command, keys)
    data, signature = (tmp_path / "m.json").read_bytes(), (tmp_path / "m.json.sig").read_bytes()
    for at in range(0, len(data), 50):
        changed = bytearray(data)
        changed[at] ^= 1
        (tmp_path / "m.json").write_bytes(changed)
        assert re.search("^signature +invalid ", checked(command), re.M)
    (tmp_path / "m.json").write_bytes(data)
    for words, raw in {
        "came 0 bytes": b"",
        "came 1215 bytes": signature[:-1],
        "came 4864 bytes": signature * 4,
        "CRC bad": signature[:50] + b"\0" + signature[51:],
        "expected first byte": b"\0" + signature[1:],
    }.items():
        (tmp_path / "m.json.sig").write_bytes(raw)
        assert words in checked(command), words
    (tmp_path / "m.json.sig").unlink()
    assert re.search("^signature +absent ", checked(command, code=0), re.M)
    assert re.search("^signature +invalid ", checked(command, "--trusted", "00" * 32), re.M)


# -- shorter forms

BASE = images.app_image(size=6000, version="1.3.0")


@pytest.fixture
def forms(tmp_path, signed_app):
    """Beside app.bin, app.gz, and delta.gz, which is to base.bin."""
    (tmp_path / "app.gz").write_bytes(packed.pack(signed_app))
    (tmp_path / "base.bin").write_bytes(BASE)
    (tmp_path / "delta.gz").write_bytes(delta.make(BASE, signed_app))


def test_shorter_forms(command, tmp_path, keys, forms):
    make(command, keys, "--packed", "app.gz", "--delta", "delta.gz,url=d/1.gz,base=base.bin")
    found = json.loads((tmp_path / "m.json").read_bytes())["files"][0]
    assert found["packed"] == {"url": "app.gz", "bytes": (tmp_path / "app.gz").stat().st_size}
    size = (tmp_path / "delta.gz").stat().st_size
    assert found["deltas"] == [{"base": BASE[-32:].hex(), "url": "d/1.gz", "bytes": size}]
    checked(command, code=1)  # it is not in d/
    (tmp_path / "d").mkdir()
    (tmp_path / "delta.gz").rename(tmp_path / "d" / "1.gz")
    out = checked(command, code=0)
    for name in ("packed for ESP32-C3", "delta for ESP32-C3"):
        assert re.search(f"^{name} +valid ", out, re.M), name
    # Without the base it can't be tried.
    (tmp_path / "base.bin").unlink()
    assert re.search("^delta for ESP32-C3 +absent .*not tried", checked(command, code=0), re.M)


def test_check_tries_each_form(command, tmp_path, keys, forms, signed_app):
    make(command, keys, "--packed", "app.gz", "--delta", "delta.gz")
    other = images.app_image(size=6000, version="1.4.0", seed=3)
    for name, data, words in (
        ("app.gz", packed.pack(other), "came"),
        ("delta.gz", delta.make(BASE, other), "came"),
        ("delta.gz", delta.make(other, signed_app), "came"),
    ):
        good = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data)
        assert words in checked(command)
        m = (tmp_path / "m.json").read_text()
        # By the same length, what it makes.
        (tmp_path / "m.json").write_text(
            m.replace(f'"bytes": {len(good)}', f'"bytes": {len(data)}')
        )
        assert "expected " in checked(command)
        (tmp_path / "m.json").write_text(m)
        (tmp_path / name).write_bytes(good)
    checked(command, code=0)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--packed", "base.bin"], "came another image"),
        (["--packed", "none.gz"], "cannot read none.gz"),
        (["--packed", "cut.gz"], "the compressed file ends early"),
        (["--packed", "other.gz"], "came another image"),
        (["--delta", "delta.gz,base=app.bin"], "the delta is for the image with SHA-256"),
        (["--delta", "other-delta.gz,base=base.bin"], "came another image"),
        (["--delta", "delta.gz", "--delta", "delta.gz"], "another delta is to the same image"),
        (["--packed", "app.gz,encrypted=app.enc"], "expected a plain file"),
    ],
)
def test_forms_that_can_not_be(command, tmp_path, keys, forms, args, words):
    (tmp_path / "cut.gz").write_bytes((tmp_path / "app.gz").read_bytes()[:-60])
    other = images.app_image(size=12288, version="1.4.0", seed=3)
    (tmp_path / "other.gz").write_bytes(packed.pack(other))
    (tmp_path / "other-delta.gz").write_bytes(delta.make(BASE, other))
    public = load_pem_public_key(keys.public("p256").read_bytes())
    (tmp_path / "app.enc").write_bytes(encfiles.write(packed.pack(BASE), public))
    err = refuse(command, "--file", "app.bin", *args, "--release", "1", "-o", "m.json")
    assert words in err


def test_a_form_belongs_to_the_file_before_it(command, capsys):
    with pytest.raises(SystemExit):
        command("--packed", "app.gz", "--file", "app.bin")
    assert "behind the --file that it is a form of" in capsys.readouterr().err


# -- what may come from anywhere

FILE = {"chip": 5, "url": "a.bin", "size": 1, "sha256": "00" * 32}
GOOD = {"release": 1, "version": "1", "files": [FILE]}
TEXT = st.text('a1.-:/"\u00e4\x00\ud800', max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES_OF_ALL = [*GOOD, "expires", "min_version", "secure_version", "rollout", "notes", "other"]
NAMES_OF_FILES = [*FILE, "board", "variant", "encrypted", "packed", "deltas", "other"]


def parse(data):
    """A manifest, or None for a refusal in words; nothing else may come of it."""
    try:
        return release.parse(data)
    except ToolError as e:
        assert str(e).startswith("the manifest ") and str(e).isprintable()
        return None


@given(st.binary(max_size=300))
def test_any_bytes(data):
    assert parse(data) is None


@given(st.dictionaries(st.sampled_from(NAMES_OF_ALL), ANYTHING))
def test_any_values(fields):
    found = parse(json.dumps(GOOD | fields).encode())
    if found:
        assert 1 <= found.release < 1 << 31
        assert 0 <= found.rollout <= 100
        assert isinstance(found.version, str) and isinstance(found.files, list)


@given(st.dictionaries(st.sampled_from(NAMES_OF_FILES), ANYTHING))
def test_any_values_of_a_file(fields):
    parse(json.dumps(GOOD | {"files": [FILE | fields]}).encode())


@given(st.integers(0, len(json.dumps(GOOD)) - 1))
def test_any_cut(n):
    assert parse(json.dumps(GOOD).encode()[:n]) is None


@pytest.mark.parametrize(
    "data", [b"[" * 8000, b'{"release": ' + b"9" * 5000 + b"}", b'{"a": NaN}', b" " * 9000, b"7"]
)
def test_what_is_hard_to_read(data):
    assert parse(data) is None


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "a b",
            "\u00e4.bin",
            "ftp://host/a",
            "file:///a",
            "https://",
            "https:///a",
            "//host/a",
        ),
        *(
            "https://me:secret@host/a",
            "https://host:0/a",
            "https://host:/a",
            "https://host:70000/a",
        ),
        *("a/b://c", "mailto:x", "https:a"),
    ],
)
def test_urls_that_no_board_takes(url):
    assert parse(json.dumps(GOOD | {"files": [FILE | {"url": url}]}).encode()) is None


def test_keys_that_can_not_sign(bad_keys):
    weak = key_files.load_private(bad_keys / "rsa2048.pem")
    with pytest.raises(ToolError, match="a key for signing is"):
        release.sign(b"{}", [weak])


@pytest.mark.parametrize("name", ["signed ü.bin", "a+b#c?d%20.bin", "50%.bin"])
def test_names_that_urls_can_not_hold_as_they_are(command, tmp_path, keys, signed_app, name):
    """They are as `serve` has them, and --check finds the file again."""
    (tmp_path / name).write_bytes(signed_app)
    words = ("--file", name, "--release", "7", "--sign", keys.private("p256"), "-o", "m.json")
    code, _, err = command(*words)
    assert (code, err) == (0, "")
    url = json.loads((tmp_path / "m.json").read_text())["files"][0]["url"]
    assert url == urllib.parse.quote(name)
    with serve.Server(tmp_path, authority.make().issue(["localhost"])) as server:
        assert server.find("/" + url) == (tmp_path / name).resolve()
    code, out, _ = command("--check", "m.json", "--trusted", keys.public("p256"))
    assert code == 0, out
