import os

metadata(
    version="0.1.0",
    description="Firmware updates over HTTPS for the ESP32, verified and with rollback.",
    license="MIT",
)

# A build takes all slices, or the core and those it names: include("path/to/https_ota/lib/manifest.py", slices="signed fleet").
# Each slice: its modules, and the slices that it can't do without. What none of them has is the core. This table alone says
# where a module belongs: package.json, what mip installs and the tests are made from it.
SLICES = {
    "core": ("", ""),
    "aio": ("aio", ""),
    "auth": ("net/auth", ""),
    "chip": ("flash/chip", ""),
    "ec": ("trust/ec", ""),
    "delta": ("pack/patch", "pack"),
    "encrypted": ("trust/decrypt trust/ecies trust/encrypted trust/gcm", "ec"),
    "fetch": ("fleet/fetch", ""),
    "fleet": ("fleet/manifest fleet/poll fleet/smaller", "fetch history"),
    "guard": ("boot/guard", "history"),
    "heatshrink": ("pack/heatshrink", "delta"),
    "history": ("boot/history boot/rollback boot/version", ""),
    "p384": ("trust/p384", "signed"),
    "pack": ("pack/inflate pack/kinds pack/ring", ""),
    "partitions": ("flash/data fleet/together", ""),
    "pin": ("net/pin", ""),
    "repl": ("repl", "history"),
    "signed": ("trust/signature", "ec"),
    "words": ("flash/words words", ""),
}

options.defaults(slices=" ".join(SLICES))
if options.without is not None:
    raise ValueError("without: name what to take instead, slices=%r" % " ".join(SLICES))
wanted = ["core"]
for name in options.slices.split():
    if name not in SLICES:
        raise ValueError("slices: expected names of %s, got %r" % (", ".join(SLICES), name))
    wanted.append(name)
for name in wanted:  # it grows meanwhile
    wanted += [n for n in SLICES[name][1].split() if n not in wanted]

HOME = {m + ".py": name for name in SLICES for m in SLICES[name][0].split()}
there = sorted(
    os.path.relpath(os.path.join(folder, f), "https_ota").replace(os.sep, "/")
    for folder, _, files in os.walk("https_ota")
    for f in files
    if f.endswith(".py")
)
if not set(HOME) <= set(there):
    raise ValueError("SLICES has what is not there: %s" % sorted(set(HOME) - set(there)))

package("https_ota", files=[f for f in there if HOME.get(f, "core") in wanted])
