"""The unit tests that touch neither flash nor otadata, run by the board itself."""

import pytest
from built import ROOT

UNIT = ROOT / "tests" / "unit"

# What these do takes memory and seconds of a chip, not of its flash.
FITTING = (
    *("der", "errors", "gcm", "hot", "http", "image", "pin", "progress", "sha384", "sign"),
    *("trust", "wrong"),
)
WITHOUT_FLASH = [f"test_{name}" for name in FITTING]


@pytest.mark.parametrize("module", WITHOUT_FLASH)
def test_on_the_board(device, module):
    device.board.soft_reset()
    with device.board.mounted(UNIT):
        said = device.board.exec(
            "import sys\n"
            "sys.path.insert(0, '/remote')\n"
            "import runner\n"
            f"print(runner.run(__import__({module!r})))\n",
            120,
        )
    lines = said.splitlines()
    passed, failed, _ = map(int, lines[-1].strip("()").split(","))
    assert failed == 0, said
    assert passed > 0, said
