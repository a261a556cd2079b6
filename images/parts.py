"""What is linked into an image's binaries: crates, as cargo selects them, and what the compilers add.

Build scripts, procedural macros, tests and other platforms' crates are in no binary, so they are not listed.
"""

import json
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import binaries
import oci

# A line of `cargo tree --prefix depth`: `2ring v0.17.14`, and ` (*)` where what it depends on stood before.
TREE_LINE = re.compile(r"(?P<depth>\d+)(?P<name>[a-zA-Z_][\w-]*) v(?P<version>\S+).*")
# A crate's source file in a panic message, as `binaries.build` has rustc write it.
CRATE_PATH = re.compile(rb"/cargo/registry/src/[^/]+/([A-Za-z][\w-]*)-(\d+\.\d+\.\d+[\w.+-]*)/")


@dataclass(frozen=True)
class Part:
    """Something that a binary holds."""

    name: str
    version: str
    # An SPDX expression.
    license: str
    # Package URL, which scanners look vulnerabilities up by; none for this project's own crates, which no registry has.
    purl: str | None = None
    download: str | None = None
    sha256: str | None = None
    # Where it came from, if no download says it.
    source: str | None = None
    # Where its licences' texts are.
    texts: Path | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Name and version: a binary may hold two versions of a crate."""
        return self.name, self.version


@dataclass
class Program:
    """One binary of an image, and what it is made of."""

    path: str
    file: Path
    root: Part
    parts: dict[tuple[str, str], Part]
    # What needs what, among the parts and the root.
    needs: set[tuple[tuple[str, str], tuple[str, str]]]


def programs(about: dict, architecture: binaries.Architecture, built: dict[str, Path]) -> list[Program]:
    """The binaries of an image of images.toml, each with its parts."""
    crates = _crates(architecture)
    found = []
    sources = [(about, True)]
    if "freestanding" in about:
        sources.append((about["freestanding"] | {"features": ["freestanding"]}, False))
    for source, has_c_library in sources:
        tree = subprocess.run(
            ["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "depth", *binaries.selection(source, architecture)],
            cwd=binaries.ROOT, check=True, capture_output=True, text=True,
        ).stdout
        root, needs = read_tree(tree)
        keys = {key for edge in needs for key in edge} - {root}
        added = [_rust(), *(_c_libraries(architecture) if has_c_library else [])]
        parts = {key: crates[key] for key in keys} | {part.key: part for part in added}
        needs |= {(root, part.key) for part in added}
        for path in sorted(source["binaries"]):
            program = Program(path, built[path], crates[root], parts, needs)
            check(program)
            found.append(program)
    return found


def read_tree(text: str) -> tuple[tuple[str, str], set[tuple[tuple[str, str], tuple[str, str]]]]:
    """The root and the edges of what `cargo tree --prefix depth` printed."""
    above, needs = [], set()
    for line in text.splitlines():
        match = TREE_LINE.fullmatch(line)
        if not match:
            raise oci.ImageError(f"cargo tree printed {line!r}")
        key, depth = (match["name"], match["version"]), int(match["depth"])
        del above[depth:]
        if above:
            needs.add((above[-1], key))
        above.append(key)
    if not above:
        raise oci.ImageError("cargo tree printed nothing")
    return above[0], needs


def check(program: Program) -> None:
    """Refuses a list that lacks a crate which the binary itself names."""
    named = {(name.decode(), version.decode()) for name, version in CRATE_PATH.findall(program.file.read_bytes())}
    if missing := sorted(named - set(program.parts)):
        raise oci.ImageError(f"{program.file} holds {missing[0][0]} {missing[0][1]}, which cargo tree doesn't list")


def _crates(architecture: binaries.Architecture) -> dict[tuple[str, str], Part]:
    """All crates that the lock file has for an architecture."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features", "--filter-platform", architecture.target]
    metadata = json.loads(subprocess.run(command, cwd=binaries.ROOT, check=True, capture_output=True, text=True).stdout)
    locked = tomllib.loads((binaries.ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}
    crates = {}
    for package in metadata["packages"]:
        name, version = key = package["name"], package["version"]
        part = Part(name, version, expression(package["license"]), texts=Path(package["manifest_path"]).parent)
        if package["source"]:
            download = f"https://static.crates.io/crates/{name}/{name}-{version}.crate"
            part = Part(name, version, part.license, f"pkg:cargo/{name}@{_escaped(version)}", download, checksums[key], texts=part.texts)
        crates[key] = part
    return crates


def expression(license: str) -> str:
    """A crate's licence as an SPDX expression: old crates write `MIT/Apache-2.0`."""
    return re.sub(r" ?/ ?", " OR ", license)


def _rust() -> Part:
    """The standard library, of which a program without it has the core."""
    def ask(*arguments: str) -> str:
        return subprocess.run(["rustc", *arguments], cwd=binaries.ROOT, check=True, capture_output=True, text=True).stdout.strip()

    version = ask("--version").split()[1]
    texts = Path(ask("--print", "sysroot")) / "share/doc/rust"
    source = "the Rust toolchain's own, with the crates in it"
    return Part("rust-std", version, "MIT OR Apache-2.0", f"pkg:generic/rust-std@{version}", source=source, texts=texts)


def _c_libraries(architecture: binaries.Architecture) -> list[Part]:
    """The C library and the compiler's, linked in from Debian's packages."""
    system = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    distro = system.get("ID", "").strip('"'), system.get("VERSION_ID", "").strip('"')
    parts = []
    for archive, source, license in (
        ("libc.a", "glibc", "LGPL-2.1-or-later"),
        ("libgcc_eh.a", "gcc", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    ):
        file = _output([architecture.c_compiler, f"-print-file-name={archive}"])
        if not os.path.isabs(file):
            raise oci.ImageError(f"{architecture.c_compiler} finds no {archive}; images/cross installs what arm64 needs")
        # `libc6-dev:amd64: /usr/lib/x86_64-linux-gnu/libc.a`
        owner = _output(["dpkg-query", "--search", os.path.realpath(file)]).rsplit(": ", 1)[0]
        name, version, arch = _output(["dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture}", owner]).split()
        purl = f"pkg:deb/{distro[0]}/{name}@{_escaped(version)}?arch={arch}&distro={distro[0]}-{distro[1]}&upstream={source}"
        parts.append(Part(name, version, license, purl, source=f"{archive}, linked in", texts=Path(f"/usr/share/doc/{name}/copyright")))
    return parts


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _escaped(version: str) -> str:
    """As a package URL has it."""
    return version.replace("+", "%2B").replace(":", "%3A")
