#!/usr/bin/env python3
"""Writes a container image as an OCI archive, without a container engine.

A tar file with an OCI image layout (https://github.com/opencontainers/image-spec) is what `ctr images import`, `crane push`,
`skopeo copy oci-archive:` and `docker load` take. Ours hold one layer of a few files, so writing it takes only the standard library.

The same input always gives the same digest: entries are sorted, and owners, times and modes are fixed (SOURCE_DATE_EPOCH, when
set, becomes the image's creation time). Only the compression may differ between zlib versions; the layer's diff id does not.

    oci.py --name docker.io/keeper/sim:0.1.0 --out dist/sim.tar --user 65532:65532 --entrypoint /keeper-sim \\
           --file target/keeper-sim:/keeper-sim:0755 --symlink /sim:keeper-sim --dir /tmp:1777
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import posixpath
import re
import struct
import sys
import tarfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# registry/path:tag, all of it written out: containerd keeps images under their full names.
REFERENCE = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})")

# e_machine of the ELF header -> the architecture's name in OCI
ARCHITECTURES = {62: "amd64", 183: "arm64"}


class ImageError(Exception):
    """What is asked for can't be an image; the text says why."""


@dataclass
class Image:
    """One image: its full name, its files, and how it starts."""

    name: str
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    user: str = ""
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    architecture: str = "amd64"
    _entries: dict[str, tuple[tarfile.TarInfo, bytes]] = field(default_factory=dict)

    def add_file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A regular file; the directories above it come by themselves."""
        self._add(path, tarfile.REGTYPE, mode, content=content)

    def add_dir(self, path: str, mode: int = 0o755) -> None:
        """A directory with a mode of its own."""
        self._add(path, tarfile.DIRTYPE, mode)

    def add_symlink(self, path: str, target: str) -> None:
        """A symbolic link; the target is written as it stands."""
        self._add(path, tarfile.SYMTYPE, 0o777, target=target)

    def content(self, path: str) -> bytes:
        """What was added as a file."""
        return self._entries[_clean(path)][1]

    def unpack(self, directory: Path) -> None:
        """Writes its files into a directory."""
        for name, (info, content) in sorted(self._entries.items()):
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if info.type == tarfile.SYMTYPE:
                path.unlink(missing_ok=True)
                path.symlink_to(info.linkname)
            elif info.type == tarfile.REGTYPE:
                path.write_bytes(content)
                path.chmod(info.mode)
            else:
                path.mkdir(exist_ok=True)
                path.chmod(info.mode)

    @property
    def created(self) -> str:
        """When it was made: at the time that SOURCE_DATE_EPOCH says, or at none."""
        return datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def write(self, out: Path) -> dict[str, int | str]:
        """Writes an archive of this image alone, and returns what `write_archive` does."""
        return write_archive(out, [self])[0]

    def _blobs(self) -> tuple[dict, list[bytes], dict[str, int | str]]:
        """The manifest's descriptor, all that it leads to, and the image's digest and sizes."""
        if self.entrypoint and _clean(self.entrypoint[0]) not in self._entries:
            raise ImageError(f"{self.name}: the entrypoint {self.entrypoint[0]} is not among the files")
        layer = self._layer()
        packed = gzipped(layer)
        config = to_json(self._config(_digest(layer)))
        manifest = to_json({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [_descriptor(LAYER, packed)],
        })
        descriptor = _descriptor(MANIFEST, manifest) | {"platform": {"architecture": self.architecture, "os": "linux"}}
        about = {"architecture": self.architecture, "digest": _digest(manifest), "packed": len(packed), "unpacked": len(layer)}
        return descriptor, [packed, config, manifest], about

    def _add(self, path: str, kind: bytes, mode: int, content: bytes = b"", target: str = "") -> None:
        name = _clean(path)
        if name in self._entries:
            raise ImageError(f"{path} stands twice in {self.name}")
        info = _info(name, kind, mode, len(content))
        info.linkname = target
        self._entries[name] = (info, content)

    def _layer(self) -> bytes:
        entries = dict(self._entries)
        for name in self._entries:
            while name := posixpath.dirname(name):
                parent = entries.setdefault(name, (_info(name, tarfile.DIRTYPE, 0o755), b""))
                if parent[0].type != tarfile.DIRTYPE:
                    raise ImageError(f"/{name} is a directory and something else in {self.name}")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for _, (info, content) in sorted(entries.items()):
                tar.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    def _config(self, diff_id: str) -> dict:
        run = {
            "User": self.user,
            "Env": [f"{name}={value}" for name, value in sorted(self.env.items())],
            "Entrypoint": self.entrypoint,
            "Cmd": self.cmd,
            "Labels": self.labels,
            "WorkingDir": "/",
        }
        return {
            "created": self.created,
            "architecture": self.architecture,
            "os": "linux",
            "config": {key: value for key, value in run.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": self.created, "created_by": "images/oci.py"}],
        }


def write_archive(out: Path, images: list[Image]) -> list[dict[str, int | str]]:
    """Writes an archive of one image, or of the same image for several architectures, and returns of each its architecture, digest
    and sizes (of the layer, compressed and unpacked, in bytes). Of several the index comes last, with its digest alone."""
    name = images[0].name
    reference = REFERENCE.fullmatch(name)
    if not reference:
        raise ImageError(f"{name!r} is not a full image name such as docker.io/keeper/sim:0.1.0")
    if {image.name for image in images} != {name} or len({image.architecture for image in images}) != len(images):
        raise ImageError(f"{name}: an archive holds one image, once for each architecture")
    written = [image._blobs() for image in images]
    entry, blobs, abouts = written[0][0], [blob for _, each, _ in written for blob in each], [about for _, _, about in written]
    if len(images) > 1:
        # Pushed as one, and a node takes from it what it can run.
        platforms = to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor for descriptor, _, _ in written]})
        entry = _descriptor(INDEX, platforms)
        blobs.append(platforms)
        abouts.append({"architecture": "index", "digest": _digest(platforms)})
    # containerd names the image by the first, skopeo and crane read the second
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": reference["tag"]}
    members = {
        "oci-layout": to_json({"imageLayoutVersion": "1.0.0"}),
        "index.json": to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}),
    }
    members |= {"blobs/sha256/" + _digest(blob).removeprefix("sha256:"): blob for blob in blobs}
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:
        for directory in ("blobs", "blobs/sha256"):
            archive.addfile(_info(directory, tarfile.DIRTYPE, 0o755))
        for path, content in sorted(members.items()):
            archive.addfile(_info(path, tarfile.REGTYPE, 0o644, len(content)), io.BytesIO(content))
    return abouts


def architecture(path: Path) -> str:
    """The OCI architecture of an ELF binary."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ImageError(f"{path} is not a 64-bit little-endian ELF binary")
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine not in ARCHITECTURES:
        raise ImageError(f"{path} is for machine {machine}, which has no name here")
    return ARCHITECTURES[machine]


def static_architecture(path: Path) -> str:
    """The OCI architecture of an ELF binary; an `ImageError` if it would need a loader or libraries that an empty image lacks."""
    found = architecture(path)
    data = path.read_bytes()
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, _, offset = struct.unpack_from("<IIQ", data, table + number * size)
        (length,) = struct.unpack_from("<Q", data, table + number * size + 32)
        if kind == 3:  # PT_INTERP
            raise ImageError(f"{path} is not static: it asks for {data[offset:offset + length].rstrip(bytes(1)).decode()}")
        if kind == 2:  # PT_DYNAMIC, which a static-pie binary has too; DT_NEEDED (1) in it names a library
            tags = struct.iter_unpack("<qQ", data[offset:offset + length - length % 16])
            if any(tag == 1 for tag, _ in tags):
                raise ImageError(f"{path} is not static: it needs a shared library")
    return found


def to_json(value: object) -> bytes:
    """In the one form in which it has one digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _clean(path: str) -> str:
    """`/a/b` -> `a/b`, the form that a layer uses."""
    name = path.removeprefix("/")
    if not path.startswith("/") or not name or posixpath.normpath(name) != name or name.startswith(".."):
        raise ImageError(f"{path!r} is not a clean absolute path")
    return name


def _info(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, mode, size
    info.uid = info.gid = info.mtime = 0
    return info


def gzipped(data: bytes) -> bytes:
    """Compressed, without a name or a time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as packed:
        packed.write(data)
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _descriptor(media_type: str, blob: bytes) -> dict:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _pairs(values: list[str], separator: str, what: str) -> list[tuple[str, str]]:
    pairs = []
    for value in values:
        left, found, right = value.partition(separator)
        if not found:
            raise ImageError(f"{what} {value!r} lacks a {separator!r}")
        pairs.append((left, right))
    return pairs


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise ImageError(f"{text!r} is not an octal mode") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a container image as an OCI archive.")
    parser.add_argument("--name", required=True, help="full name with tag: docker.io/library/busybox:latest")
    parser.add_argument("--out", required=True, type=Path, help="the archive to write")
    parser.add_argument("--architecture", default="amd64")
    parser.add_argument("--user", default="", help="UID:GID")
    parser.add_argument("--entrypoint", action="append", default=[], metavar="ARG", help="once for each argument")
    parser.add_argument("--cmd", action="append", default=[], metavar="ARG", help="once for each argument")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--file", action="append", default=[], metavar="SOURCE:PATH[:MODE]", help="mode 0644 unless said, 0755 if the source is executable")
    parser.add_argument("--symlink", action="append", default=[], metavar="PATH:TARGET")
    parser.add_argument("--dir", action="append", default=[], metavar="PATH:MODE")
    given = parser.parse_args()
    try:
        image = Image(
            name=given.name,
            entrypoint=given.entrypoint,
            cmd=given.cmd,
            user=given.user,
            env=dict(_pairs(given.env, "=", "--env")),
            labels=dict(_pairs(given.label, "=", "--label")),
            architecture=given.architecture,
        )
        for source, rest in _pairs(given.file, ":", "--file"):
            path, _, mode = rest.partition(":")
            standard = 0o755 if os.access(source, os.X_OK) else 0o644
            image.add_file(path, Path(source).read_bytes(), _mode(mode) if mode else standard)
        for path, mode in _pairs(given.dir, ":", "--dir"):
            image.add_dir(path, _mode(mode))
        for path, target in _pairs(given.symlink, ":", "--symlink"):
            image.add_symlink(path, target)
        print(image.name, image.write(given.out)["digest"])
    except (ImageError, OSError) as error:
        sys.exit(f"oci.py: {error}")


if __name__ == "__main__":
    main()
