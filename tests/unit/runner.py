# Runs tests on MicroPython, the SIM board or a real one: every function test_* of the modules named
# (all test_*.py beside this file when none is named), or one function given as module.function.
#
#     micropython tests/unit/runner.py [module | module.function]...
#
# A test is a plain function with plain asserts. It may raise SystemExit("SKIP: why").

import gc
import os
import sys


def run(module, only=None):
    """Run a module's tests; return how many passed, failed and were skipped."""
    names = sorted(n for n in dir(module) if n.startswith("test_") and (only is None or n == only))
    passed = failed = skipped = 0
    for name in names:
        gc.collect()
        label = module.__name__ + "." + name
        try:
            getattr(module, name)()
        except SystemExit as e:
            skipped += 1
            print("SKIP", label, e)
        except Exception as e:
            failed += 1
            print("FAIL", label)
            sys.print_exception(e)
        else:
            passed += 1
            print("PASS", label)
    return passed, failed, skipped


def main(args):
    here = __file__.rpartition("/")[0] or "."
    sys.path.insert(0, here)
    args = args or sorted(
        f[:-3] for f in os.listdir(here) if f.startswith("test_") and f.endswith(".py")
    )
    total = [0, 0, 0]
    for arg in args:
        name, _, only = arg.partition(".")
        counts = run(__import__(name), only or None)
        total = [a + b for a, b in zip(total, counts)]
    print("%d passed, %d failed, %d skipped" % tuple(total))
    sys.exit(1 if total[1] or not sum(total) else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
