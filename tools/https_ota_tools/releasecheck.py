"""Checks of a release as it lies on the server: the manifest, its signature, its files."""

from __future__ import annotations

import datetime
import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote, urlsplit

import esptool.targets

from https_ota_tools import delta, encimg, files, image, packed, release, roots, sbv2
from https_ota_tools.errors import ToolError


def check(
    data: bytes,
    signature: bytes | None,
    trusted: Collection[str],
    folder: Path,
    now: datetime.datetime,
    running: str = "",
) -> list[image.Check]:
    """Check a manifest, its signature and the files that it names, as far as they are in a folder.

    trusted: digests of keys, one of which must have signed it; without any, any key will do.
    running: what "running" in the boards' `trusted_keys` stands for, see sbv2.running_key(). It is for images, too.
    """
    checks = [check_signature(data, signature, [*trusted, *filter(None, [running])])]
    try:
        manifest = release.parse(data)
    except ToolError as e:
        return [image.Check("manifest", image.Verdict.INVALID, str(e)), *checks]
    words = f"release {manifest.release}, serial {manifest.serial}, version {manifest.version or '(none)'}, {len(data)} bytes"
    words += f", for {manifest.rollout} % of the boards"
    checks.insert(0, image.Check("manifest", image.Verdict.VALID, words))
    if manifest.expires is None:
        detail = "never: whoever can answer in the server's place can hold a fleet at this release"
        checks.append(image.Check("expires", image.Verdict.ABSENT, detail))
    else:
        late = now >= manifest.expires
        detail = f"{'expired' if late else 'good until'} {release.time_text(manifest.expires)}"
        checks.append(
            image.Check("expires", image.Verdict.INVALID if late else image.Verdict.VALID, detail)
        )
    if not manifest.files:
        checks.append(image.Check("files", image.Verdict.INVALID, "none: no board finds one"))
    for file in manifest.files:
        path = _find(file.url, folder)
        checks.append(_check_file(file, manifest, path))
        if checks[-1].verdict is image.Verdict.VALID and (trusted or running):
            checks.append(_check_trust(path, trusted, running))
        checks += [_check_form(file, *form, folder) for form in file.smaller]
    return checks


def check_published(data: bytes, published: bytes | None) -> image.Check:
    """Check that boards that have seen what is published, None for nothing, take a manifest for a newer one."""
    if published is None:
        return image.Check("published", image.Verdict.ABSENT, "nothing")
    try:
        new, old = release.parse(data), release.parse(published)
    except ToolError as e:
        return image.Check("published", image.Verdict.INVALID, str(e))
    there = f"release {old.release}, serial {old.serial}, for {old.rollout} % of the boards"
    if data == published:
        return image.Check("published", image.Verdict.VALID, f"it is this one: {there}")
    if new.mark > old.mark:
        return image.Check("published", image.Verdict.VALID, there)
    detail = f"{there}: boards that have seen that take this one for an old file; "
    if new.mark == old.mark:
        detail = (
            f"{there}, and yet another file: boards can't tell which of both is the newer one; "
        )
    return image.Check("published", image.Verdict.INVALID, detail + "change what is published")


def fetch(url: str, ca: Path | None, timeout_s: float = 15) -> bytes | None:
    """Return the file at a URL as it is now, None if there is none. Raises ToolError if it can't be had."""
    context = ssl.create_default_context(cadata=roots.pem(roots.load(ca)))
    shown = url.partition("?")[0]
    if not url.lower().startswith("https://"):
        raise ToolError(f"expected https://host/path, got {shown}")
    try:
        request = urllib.request.Request(url, headers={"Cache-Control": "no-cache"})
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as reply:
            found: bytes = reply.read(release.LIMIT + 1)
            return found
    except urllib.error.HTTPError as e:
        if e.code in {403, 404, 410}:
            return None
        raise ToolError(f"{shown} answered {e.code} {e.reason}") from e
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise ToolError(f"{shown}: {e}") from e


def check_signature(data: bytes, signature: bytes | None, trusted: Collection[str]) -> image.Check:
    """Return the check of a manifest's signature, None if there is none, that boards with these `trusted_keys` make."""
    if signature is None:
        verdict = image.Verdict.INVALID if trusted else image.Verdict.ABSENT
        return image.Check("signature", verdict, "none: boards with trusted_keys refuse it")
    if not 0 < len(signature) <= sbv2.MAX_BLOCKS * sbv2.BLOCK_BYTES or (
        len(signature) % sbv2.BLOCK_BYTES
    ):
        detail = f"expected 1 to {sbv2.MAX_BLOCKS} blocks of {sbv2.BLOCK_BYTES} bytes, came {len(signature)} bytes"
        return image.Check("signature", image.Verdict.INVALID, detail)
    found = sbv2.data_blocks(data, signature)
    good = [b for b in found if b.good and (not trusted or b.key_digest in trusted)]
    if good:
        said = ", ".join(f"{b.scheme} by the key {b.key_digest}" for b in good)
        return image.Check("signature", image.Verdict.VALID, said)
    said = "; ".join(
        f"block {b.number}: " + (b.problem or f"the key {b.key_digest} is not trusted")
        for b in found
    )
    return image.Check("signature", image.Verdict.INVALID, said)


def _find(url: str, folder: Path) -> Path:
    parts = urlsplit(url)
    name = unquote(parts.path)
    # Of one that lies elsewhere, a copy in the folder.
    return folder / (Path(name).name if parts.netloc or name.startswith("/") else name)


def _check_trust(path: Path, trusted: Collection[str], running: str) -> image.Check:
    """Return the check of an image's signature. By keys that are named, boards may go by others: image_keys."""
    data = files.read(path)
    found = sbv2.check_trust(sbv2.blocks(data, image.load_app(data).length), trusted, running)
    if found.verdict is image.Verdict.VALID or running:
        return found
    detail = f"{found.detail}; boards refuse it, unless image_keys= says otherwise"
    return image.Check("signature", image.Verdict.ABSENT, detail)


def _check_file(file: release.File, manifest: release.Manifest, path: Path) -> image.Check:
    name = f"file for {file.kind}"
    try:
        problem, detail = _judge_file(file, manifest, files.read(path))
    except ToolError as e:
        problem, detail = str(e), ""
    if problem:
        return image.Check(name, image.Verdict.INVALID, f"{path}: {problem}")
    if detail:
        return image.Check(name, image.Verdict.ABSENT, f"{path}: {detail}")
    return image.Check(name, image.Verdict.VALID, f"{path}, {file.size} bytes")


def _check_form(file: release.File, base: str, url: str, size: int, folder: Path) -> image.Check:
    """Return the check of a shorter form: that it makes the same image."""
    name = f"{'delta' if base else 'packed'} for {file.kind}"
    path = _find(url, folder)
    try:
        problem, detail = _judge_form(file, base, size, files.read(path), folder)
    except ToolError as e:
        problem, detail = str(e), ""
    if problem:
        return image.Check(name, image.Verdict.INVALID, f"{path}: {problem}")
    if detail:
        return image.Check(name, image.Verdict.ABSENT, f"{path}: {detail}")
    return image.Check(name, image.Verdict.VALID, f"{path}, {size} bytes")


def _judge_form(
    file: release.File, base: str, size: int, data: bytes, folder: Path
) -> tuple[str, str]:
    if len(data) != size:
        return f"expected {size} bytes, came {len(data)}", ""
    if file.encrypted or encimg.is_encrypted(data):
        if not (file.encrypted and encimg.is_encrypted(data)):
            return "encrypted or not, it should be as the image", ""
        return "", "encrypted, so what is in it was not checked"
    content = packed.content(data)
    if delta.is_delta(content) != bool(base):
        return f"expected {'a delta' if base else 'a compressed image'}, another file came", ""
    if base:
        if delta.base_of(content) != base:
            return f"expected a delta to {base}, came one to {delta.base_of(content)}", ""
        old = _image_with(base, folder)
        if old is None:
            return "", "not tried, as no file beside it is the image that it is to"
        content = delta.apply(content, old)
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        return f"expected what makes the image with SHA-256 {file.sha256}, came {digest}", ""
    return "", ""


def _image_with(digest: str, folder: Path) -> bytes | None:
    """Return the image in a folder that has this SHA-256 at its end."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.stat().st_size <= release.MAX_IMAGE:
            data = files.read(path)
            found = image.examine(data).image if data[:1] == bytes([image.MAGIC]) else None
            if found and found.digest and found.digest.hex() == digest:
                return data
    return None


# What is wrong with it, and what could not be checked.
def _judge_file(file: release.File, manifest: release.Manifest, data: bytes) -> tuple[str, str]:
    if file.encrypted:
        if not encimg.is_encrypted(data):
            return "expected an encrypted image, another file came", ""
        length = encimg.parse(data).length
        if length != file.size:
            return f"expected an image of {file.size} bytes in it, came one of {length}", ""
        return "", "encrypted, so its SHA-256 was not checked"
    if len(data) != file.size:
        return f"expected {file.size} bytes, came {len(data)}", ""
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        return f"expected SHA-256 {file.sha256}, came {digest}", ""
    found = image.load_app(data)
    chip = esptool.targets.CHIP_DEFS[found.chip].CHIP_NAME
    if file.chip != found.chip_id and str(file.chip).lower().replace("-", "") != found.chip:
        return f"it is for {chip}, the manifest says {file.kind}", ""
    assert found.desc
    if file.elf_sha256 and file.elf_sha256 != found.desc.app_elf_sha256:
        elf = found.desc.app_elf_sha256
        return f"expected the ELF's SHA-256 {file.elf_sha256}, came {elf}", ""
    if found.desc.version and found.desc.version != manifest.version:
        return f"expected version {manifest.version}, came {found.desc.version}", ""
    if found.desc.secure_version != manifest.secure_version:
        came = found.desc.secure_version
        return f"expected secure version {manifest.secure_version}, came {came}", ""
    return "", ""
