"""Debian packages of another architecture, through the host's own mirror and without root."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgesvit.boards.process import start, stop
from edgesvit.errors import EdgesvitError
from edgesvit.lower.compile import need

HINT = "needs a Debian host and, this once, its package mirror; does `apt-get update` work?"


class PackageTree:
    """A private apt tree in `folder`: the host's sources and keys, another `architecture`.

    Neither the host's package lists nor its dpkg database are read or written. `kernel_of` and
    `download` raise EdgesvitError with apt's own words.
    """

    def __init__(self, folder: Path, architecture: str):
        for program in ("apt-get", "apt-cache", "apt-config"):
            need(program)
        self.folder = folder
        for part in ("etc/apt.conf.d", "state/lists/partial", "cache/archives/partial", "debs"):
            (folder / part).mkdir(parents=True)
        (folder / "status").touch()
        conf = folder / "apt.conf"
        conf.write_text(_configuration(folder, architecture))
        self._trouble = ""  # what apt said about a source that it could not read
        self._env = {**os.environ, "APT_CONFIG": str(conf), "LC_ALL": "C"}

    def update(self, deadline_s: float = 120) -> None:
        """Fetch the package lists.

        A source that cannot be read is no error yet: another may have all that is wanted, and a
        third party's often lacks the architecture. It is named when a later step fails.
        """
        _, _, self._trouble = self._call(["apt-get", "-qq", "update"], deadline_s)

    def kernel_of(self, meta: str) -> str:
        """The one package that the meta package `meta` depends on."""
        # Unlike apt-cache, apt-get says so when there is no such package.
        self._need(["apt-get", "-qq", "download", "--print-uris", meta], 60)
        listed = self._need(["apt-cache", "depends", "--important", meta], 60)
        return listed.partition("Depends:")[2].split()[0]

    def download(self, names: Sequence[str], deadline_s: float = 300) -> list[Path]:
        """Download the packages `names`, hash-checked by apt; returns their .deb files, sorted."""
        self._need(["apt-get", "-qq", "download", *names], deadline_s)
        return sorted((self.folder / "debs").glob("*.deb"))

    def _need(self, argv: Sequence[str], deadline_s: float) -> str:
        done, output, told = self._call(argv, deadline_s)
        if not done:
            raise EdgesvitError(f"{argv[0]}: {self._trouble or told or 'failed'}", HINT)
        return output

    def _call(self, argv: Sequence[str], deadline_s: float) -> tuple[bool, str, str]:
        """Whether `argv` ended well, its stdout, and its first error or warning."""
        process = start(argv, cwd=self.folder / "debs", env=self._env, text=True,
                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            output, errors = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            return False, "", f"no end after {deadline_s:.0f} s"
        finally:
            stop(process)
        told = [line[3:].strip() for line in errors.splitlines() if line.startswith(("E: ", "W: "))]
        return process.returncode == 0, output, told[0] if told else ""


def _configuration(folder: Path, architecture: str) -> str:
    """apt's configuration: everything private but the sources, their keys and the proxy."""
    acquire = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    return "\n".join([
        f'Dir "{folder}";',
        'Dir::Etc "etc";',
        'Dir::Etc::sourcelist "/etc/apt/sources.list";',
        'Dir::Etc::sourceparts "/etc/apt/sources.list.d";',
        'Dir::Etc::trusted "/etc/apt/trusted.gpg";',
        'Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";',
        'Dir::Etc::netrc "/etc/apt/auth.conf";',
        'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
        'Dir::State "state";',
        f'Dir::State::status "{folder}/status";',
        'Dir::Cache "cache";',
        'Dir::Bin::methods "/usr/lib/apt/methods";',
        f'APT::Architecture "{architecture}";',
        f'APT::Architectures {{ "{architecture}"; }};',
        'APT::Sandbox::User "";',  # as root apt would drop to a user that cannot enter `folder`
        *(line for line in acquire.stdout.splitlines() if line.startswith("Acquire::")
          and "IndexTargets" not in line and "CompressionTypes" not in line),
        'Acquire::http::Timeout "20";',
        'Acquire::https::Timeout "20";',
        'Acquire::Retries "1";',
        'Acquire::Languages { "none"; };',
    ]) + "\n"
