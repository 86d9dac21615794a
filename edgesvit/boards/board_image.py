"""Kernel and initramfs of the emulated aarch64 board, made from Debian packages without root."""

import gzip
import hashlib
import json
import lzma
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesvit.boards.debian import HINT, PackageTree
from edgesvit.errors import EdgesvitError
from edgesvit.lower.compile import need
from edgesvit.resources import cache_dir

KERNEL = "linux-image-cloud-arm64"  # a meta package: it depends on the current kernel
PACKAGES = ("busybox-static", "dropbear-bin", "openssh-sftp-server", "libc6", "libcrypt1",
            "libtomcrypt1", "libtommath1", "libgmp10", "zlib1g")
# In the order in which they depend on one another.
MODULES = ("virtio_ring", "virtio", "virtio_mmio", "failover", "net_failover", "virtio_net")

READY = "edgesvit: network is up"  # on the serial console

RCS = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
for m in {" ".join(MODULES)}; do insmod /m/$m.ko; done
hostname edgesvit
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
echo {READY}
"""
INITTAB = """::sysinit:/etc/rcS
::respawn:/sbin/dropbear -F -E -s -j -k -p 22 -r /etc/dropbear/hostkey
"""
TEXTS = {
    "etc/rcS": RCS,
    "etc/inittab": INITTAB,
    "etc/passwd": "root::0:0:root:/root:/bin/sh\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\n",
    "etc/group": "root:x:0:\n",
    "etc/shells": "/bin/sh\n",
}
# Where what is kept of a package goes on the board. Newer packages put /lib and /sbin under /usr;
# the leading `usr/` is dropped before these are matched.
KEEP = (
    (re.compile(r"bin/busybox"), "bin/busybox"),
    (re.compile(r"sbin/dropbear"), "sbin/dropbear"),
    (re.compile(r"lib/openssh/sftp-server"), "usr/lib/sftp-server"),
    (re.compile(r"(lib/(?:aarch64-linux-gnu/)?[^/]+\.so[^/]*)"), r"\1"),
    (re.compile(rf"lib/modules/.*/({'|'.join(MODULES)})\.ko(?:\.xz)?"), r"m/\1.ko"),
    (re.compile(r"boot/vmlinuz-.*"), "vmlinuz"),
)


@dataclass(frozen=True)
class BoardImage:
    """What QEMU boots. Nothing in it is secret: keys are given to the board at each start."""

    kernel: Path
    initrd: Path
    versions: tuple[str, ...]  # file names of the packages, which carry their versions


@dataclass(frozen=True)
class Entry:
    """One file of an initramfs; `mode` holds its type and permissions, a link's data its target."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)  # major, minor of a device node


def file_entry(data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file owned by root."""
    return Entry(stat.S_IFREG | permissions, data)


def cpio(entries: Mapping[str, Entry]) -> bytes:
    """A `newc` archive of `entries` (path without leading slash -> entry), in the given order.

    The kernel unpacks several archives one after the other, so a second one may follow this.
    """
    parts = []
    for number, (name, entry) in enumerate((*entries.items(), ("TRAILER!!!", Entry(0))), 1):
        raw = name.encode() + b"\0"
        header = "070701" + "".join(f"{value:08x}" for value in (
            number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(raw), 0))
        for part in (header.encode() + raw, entry.data):
            parts.append(part + b"\0" * (-len(part) % 4))
    return b"".join(parts)


def board_image(note: Callable[[str], None]) -> BoardImage:
    """The image, built on the first call and taken from the cache afterwards.

    A cached image needs neither the network nor apt. Raises EdgesvitError when it cannot be built.
    """
    recipe = hashlib.sha256(repr((KERNEL, PACKAGES, MODULES, TEXTS, KEEP)).encode()).hexdigest()[:8]
    cache = cache_dir("board-image")
    for folder in sorted(cache.glob(f"{recipe}-*")):
        return _read(folder)
    need("dpkg-deb")
    _sweep(cache)
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as work:
        built = _build(Path(work), note)
        names = json.loads((built / "packages.json").read_text())
        key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
        folder = cache / f"{recipe}-{key}"
        try:
            built.rename(folder)
        except OSError:  # another process finished the same image first: its folder is as good
            if not folder.is_dir():
                raise
    return _read(folder)


def _read(folder: Path) -> BoardImage:
    names = json.loads((folder / "packages.json").read_text())
    return BoardImage(folder / "vmlinuz", folder / "initrd", tuple(names))


def _sweep(cache: Path, age_s: float = 3600) -> None:
    """Remove what a killed build left behind."""
    for folder in cache.glob("building-*"):
        if time.time() - folder.stat().st_mtime > age_s:
            shutil.rmtree(folder, ignore_errors=True)


def _build(work: Path, note: Callable[[str], None]) -> Path:
    note("fetching the emulated board's packages from the Debian mirror (about 35 MB, once)")
    tree = PackageTree(work / "apt", "arm64")
    tree.update()
    debs = tree.download([tree.kernel_of(KERNEL), *PACKAGES])
    note("building the emulated board's kernel and initramfs")
    files: dict[str, Entry] = {}
    for deb in debs:
        files.update(_kept(deb))
    missing = {"vmlinuz", "bin/busybox", "sbin/dropbear", "usr/lib/sftp-server",
               *(f"m/{name}.ko" for name in MODULES)} - files.keys()
    if missing:
        raise EdgesvitError(f"board image: the packages lack {', '.join(sorted(missing))}", HINT)
    kernel = files.pop("vmlinuz").data
    image = work / "image"
    image.mkdir()
    (image / "vmlinuz").write_bytes(kernel)
    (image / "initrd").write_bytes(gzip.compress(cpio(_tree(files)), 6, mtime=0))
    (image / "packages.json").write_text(json.dumps(sorted(deb.name for deb in debs), indent=1))
    return image


def _tree(files: Mapping[str, Entry]) -> dict[str, Entry]:
    """The whole file system: folders first, then `files`, the configuration and the console."""
    whole = dict(files)
    whole.update({name: file_entry(text.encode(), 0o755 if name == "etc/rcS" else 0o644)
                  for name, text in TEXTS.items()})
    whole["init"] = Entry(stat.S_IFLNK | 0o777, b"/bin/busybox")
    whole["bin/sh"] = Entry(stat.S_IFLNK | 0o777, b"busybox")
    whole["dev/console"] = Entry(stat.S_IFCHR | 0o600, device=(5, 1))
    # dropbear refuses a key file below a folder that others may write to.
    folders = {"root": 0o700, "root/.ssh": 0o700, "tmp": 0o1777,
               **dict.fromkeys(("proc", "sys", "var", "var/run", "var/log", "etc/dropbear"), 0o755)}
    for name in whole:
        for parent in list(Path(name).parents)[:-1]:
            folders.setdefault(str(parent), 0o755)
    return {**{name: Entry(stat.S_IFDIR | folders[name]) for name in sorted(folders)}, **whole}


def _kept(deb: Path) -> Iterator[tuple[str, Entry]]:
    """The (path on the board, entry) pairs of the files in a package that the board needs."""
    argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as unpack:
        with tarfile.open(fileobj=unpack.stdout, mode="r|") as archive:
            for member in archive:
                name = member.name.removeprefix("./").removeprefix("usr/")
                for pattern, place in KEEP:
                    if match := pattern.fullmatch(name):
                        yield match.expand(place), _entry(archive, member)


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    if member.issym():
        return Entry(stat.S_IFLNK | 0o777, member.linkname.encode())
    data = archive.extractfile(member).read()
    if member.name.endswith(".xz"):
        data = lzma.decompress(data)
    return file_entry(data, member.mode & 0o777)
