"""The user's boards.toml."""

import pytest

from edgesvit.boards.hosts import HostEntry, boards_file, check_host, host_for, serial_port_for
from edgesvit.errors import Unreachable, UsageError


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    boards_file().parent.mkdir()


def test_without_a_file_a_target_is_its_own_host():
    assert host_for("rpi5") == HostEntry(host="rpi5")


def test_an_entry_is_read():
    boards_file().write_text('[rpi5]\nhost = "pi@192.168.1.20"\nport = 2222\n'
                             'options = ["-i", "~/.ssh/board"]\n')
    assert host_for("rpi5") == HostEntry("pi@192.168.1.20", 2222, ("-i", "~/.ssh/board"))
    assert host_for("rpi4") == HostEntry("rpi4")


def test_the_config_folder_is_below_home(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert boards_file() == tmp_path / "home/.config/edgesvit/boards.toml"


@pytest.mark.parametrize("text", [
    "[rpi5\n", '[rpi5]\nhots = "pi"\n', '[rpi5]\nport = "22"\n', "rpi5 = 3\n",
    '[rpi5]\nhost = "-oProxyCommand=id"\n', '[rpi5]\nhost = "pi; id"\n', '[rpi5]\nhost = "a b"\n',
    '[rpi5]\nhost = "`id`"\n', '[rpi5]\nhost = "$(id)"\n', '[rpi5]\nhost = "a\\nid"\n',
    "[rpi5]\nhost = \"'pi'\"\n", '[rpi5]\nhost = "pi|id"\n', '[rpi5]\nhost = "pi&id"\n',
])
def test_what_cannot_be_used_is_refused(text):
    boards_file().write_text(text)
    with pytest.raises(UsageError) as caught:
        host_for("rpi5")
    assert "\n" not in caught.value.message and caught.value.hint


@pytest.mark.parametrize("host", ["rpi5", "pi@rpi5.local", "pi@10.0.0.7", "pi@fe80::1%eth0", "::1"])
def test_hosts_that_ssh_takes(host):
    check_host(host)


def test_serial_port():
    boards_file().write_text('[nucleo-f446re]\nserial = "/dev/ttyACM0"\n')
    assert serial_port_for("nucleo-f446re") == "/dev/ttyACM0"
    with pytest.raises(Unreachable) as caught:
        serial_port_for("nucleo-h743zi")
    assert str(boards_file()) in caught.value.hint
