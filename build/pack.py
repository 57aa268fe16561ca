"""Pack an application folder into one self-extracting file: `python build/pack.py FOLDER FILE`."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import platform
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from target import requirement

from mlxserve import __version__

STUB = Path(__file__).with_name("stub.sh")
BUILD_ID = "build-id"
"""The file in the folder that holds the build's name, for the application to read (mlxserve/bundle.py)."""
PROGRAM = "mlxserve"
ID_DIGITS = 12


def pack(folder: Path, file: Path, version: str, oldest: str) -> str:
    """Write `file`, which unpacks and runs `folder`; returns the build's id, made from the folder's content.

    `version` is mlxserve's, `oldest` the oldest macOS or glibc that it runs on.
    """
    if not os.access(folder / PROGRAM, os.X_OK):
        raise SystemExit(f"{folder} has no program {PROGRAM}: run build/freeze.py first")
    build = content_id(folder)
    (folder / BUILD_ID).write_text(build + "\n")
    payload = archive(folder)
    stub = script(
        payload,
        {
            "VERSION": version,
            "BUILD": build,
            "SYSTEM": platform.system(),
            "MACHINE": platform.machine(),
            "OLDEST": oldest,
            "UNPACKED_KIB": str(disk_kib(folder)),
            "FILES": " ".join(names_of(folder)),
            "CACHE": "Library/Caches" if platform.system() == "Darwin" else ".cache",
        },
    )
    unfinished = file.with_name(file.name + ".unfinished")
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_bytes(stub + payload)
    unfinished.chmod(0o755)
    unfinished.rename(file)  # never a file that is half another build's
    return build


def content_id(folder: Path) -> str:
    """What names a build: the digest of all names, modes, links and bytes in its folder, shortened."""
    digest = hashlib.sha256()
    for path in entries(folder):
        name = path.relative_to(folder)
        digest.update(f"{name}\0{stat.S_IMODE(path.lstat().st_mode) if not path.is_symlink() else 0:o}\0".encode())
        if path.is_symlink():
            digest.update(os.readlink(path).encode())
        elif path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:ID_DIGITS]


def archive(folder: Path) -> bytes:
    """`folder` as a gzipped tar file, which every system can unpack; equal folders give equal bytes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in [*entries(folder), folder / BUILD_ID]:
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False, filter=_anonymous)
    return packed.getvalue()


def script(payload: bytes, values: dict[str, str]) -> bytes:
    """The stub with `values` and the places and digest of what follows it."""
    template = STUB.read_text()
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    size = 0
    while True:  # the script's length is written in it
        text = template.replace("@SCRIPT_BYTES@", str(size)).replace("@FILE_BYTES@", str(size + len(payload)))
        digest_from = text.index("\n", text.index("\ndigest=") + 1) + 1 - len("@DIGEST@") + 64
        text = text.replace("@DIGEST_FROM@", str(digest_from + 1))
        length = len(text.encode()) - len("@DIGEST@") + 64
        if length == size:
            break
        size = length
    head, _, rest = text.partition("@DIGEST@\n")
    digest = hashlib.sha256(rest.encode() + payload).hexdigest()
    return f"{head}{digest}\n{rest}".encode()


def entries(folder: Path) -> Iterator[Path]:
    """All files, links and folders in `folder`, in one order everywhere, less what is written after packing began."""
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path != folder / BUILD_ID:
            yield path


def names_of(folder: Path) -> list[str]:
    """All files and links, for the script to look whether they are there. Raises SystemExit where it could not."""
    names = [path.relative_to(folder).as_posix() for path in entries(folder) if path.is_symlink() or path.is_file()]
    for name in names:
        if not name.isascii() or set(name) & set(" \t\n'*?["):
            raise SystemExit(f"{folder}/{name}: the script in build/stub.sh cannot name this file")
    return [*names, BUILD_ID]


def disk_kib(folder: Path) -> int:
    """What the unpacked folder takes on disk, in KiB, in blocks of 4."""
    return sum((path.lstat().st_size + 4095) // 4096 * 4 for path in entries(folder)) + 1024


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def main() -> None:
    """Pack as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--oldest", default="", help="the oldest macOS, or glibc, that it runs on; found if left out")
    args = parser.parse_args()
    build = pack(args.folder, args.file, __version__, args.oldest or requirement(args.folder).oldest)
    print(f"{args.file}: build {build}, {args.file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
