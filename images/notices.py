"""Collects the licences of all that is linked into the images: permissive as they are, most ask that their text go along."""

import html
import re
from collections import defaultdict
from pathlib import Path

import binaries
import oci
from parts import Part, Program

# Where it stands in the images.
PATH = "/third-party.txt.gz"
# What crates call such files.
NAMES = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE).*", re.IGNORECASE)
# A licence with a text that is the same for all, so that this project's own copy does for a crate that ships none.
SAME_FOR_ALL = {"Apache-2.0": binaries.ROOT / "LICENSE"}

HEAD = """\
What is linked into the images of Keeper Injector, and the licences that it comes under.

The C library (glibc) is under the LGPL: whoever wants another version of it in these programs builds the images from this
project's source, all of which is published, on a system that has that version. The compiler's library (libgcc) and its
exception, and the Rust standard library, come with the toolchains.
"""


def packed(programs: list[Program]) -> bytes:
    """The text about all parts of an image's programs. Packed, as it is a fifth of the image else, and is read by few."""
    return oci.gzipped(text({part for program in programs for part in program.parts.values()}).encode())


def text(parts: set[Part]) -> str:
    """A table of the parts, then each text once, headed by those that it belongs to."""
    foreign = sorted((part for part in parts if part.purl), key=lambda part: part.key)
    texts: dict[str, list[str]] = defaultdict(list)
    for part in foreign:
        for content in _texts(part):
            texts[content].append(f"{part.name} {part.version}")
    sections = [HEAD, "\n".join(f"{part.name} {part.version}: {part.license}" for part in foreign)]
    for content, names in sorted(texts.items(), key=lambda item: (item[1], item[0])):
        sections.append("=" * 100 + "\n" + ", ".join(names) + "\n" + "-" * 100 + "\n" + content)
    return "\n\n".join(sections) + "\n"


def _texts(part: Part) -> list[str]:
    if part.texts.is_file():
        files = [part.texts]
    else:
        files = sorted(path for path in part.texts.iterdir() if path.is_file() and NAMES.fullmatch(path.name))
        # The Rust toolchain has those of its compiler too, which is linked into nothing.
        files = [path for path in files if path.name != "COPYRIGHT.html"]
    if not files and part.license in SAME_FOR_ALL:
        files = [SAME_FOR_ALL[part.license]]
    if not files:
        raise oci.ImageError(f"{part.name} {part.version} is under {part.license} and ships no text of it")
    return [_plain(path) for path in files]


def _plain(path: Path) -> str:
    content = path.read_text(errors="replace")
    if path.suffix == ".html":
        content = html.unescape(re.sub(r"<[^>]*>", "", content))
    lines = [line.rstrip() for line in content.strip().splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
