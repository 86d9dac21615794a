"""Every shipped target and profile is complete; a wrong file is told in one line."""

import pytest

from edgesvit import profiles, targets
from edgesvit.errors import UsageError
from edgesvit.resources import shipped


@pytest.mark.parametrize("name", targets.names())
def test_shipped_targets(name):
    target = targets.load(name)
    assert target.name == name and target.url.startswith("https://")
    assert all(region.bytes > 0 for region in target.memory)
    profiles.load(target.default_profile)
    if target.kind == "mcu":
        assert target.uart and target.clock_hz
        assert all(region.origin is not None for region in target.memory)
    if name.startswith("qemu-"):
        assert target.emulator
    else:
        assert target.emulator is None


@pytest.mark.parametrize("board", ["rpi5", "rpi4", "rpi-zero2w", "jetson-orin-nano",
                                   "nucleo-h743zi", "nucleo-f446re"])
def test_real_boards_are_there(board):
    assert board in targets.names()


def test_an_unknown_target_names_the_known_ones():
    with pytest.raises(UsageError, match="unknown target 'rpi55'; known: .*rpi5"):
        targets.load("rpi55")


def host_with(tmp_path, change) -> str:
    text = change((shipped("targets") / "host.toml").read_text())
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t.replace('kind = "host"', 'kind = "toaster"'), "toaster"),
    (lambda t: t + "\ncolour = 3\n", "colour"),
    (lambda t: t.replace('"arena", ', ""), "no memory region holds arena"),
    (lambda t: t.replace("name =", "name ", 1), "mine.toml"),
])
def test_a_wrong_file_is_told_in_one_line(tmp_path, change, message):
    with pytest.raises(UsageError, match=message) as caught:
        targets.load(host_with(tmp_path, change))
    assert "\n" not in caught.value.message


def test_a_target_of_one_s_own(tmp_path):
    assert targets.load(host_with(tmp_path, lambda t: t.replace('"host"', '"host"'))).name == "host"
