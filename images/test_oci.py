"""The archives that oci.py writes: run with `python3 -m unittest discover images`."""

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import oci


def elf(kind: int, payload: bytes, machine: int = 62) -> bytes:
    """The smallest ELF file with one program header of a kind and its content."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", kind, 4, 120, 0, 0, len(payload), len(payload), 8) + payload


class Archives(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def image(self, name: str = "docker.io/keeper/thing:1.2.3") -> oci.Image:
        image = oci.Image(name, entrypoint=["/bin/app"], cmd=["serve"], user="65532:65532", env={"B": "2", "A": "1"}, labels={"l": "v"})
        image.add_symlink("/bin/alias", "app")
        image.add_dir("/tmp", 0o1777)
        image.add_file("/bin/app", b"program", 0o755)
        return image

    def read(self, path: Path) -> tuple[dict, dict, dict, bytes]:
        """Index, manifest, config and unpacked layer, each found by its digest as a registry would."""
        with tarfile.open(path) as archive:
            content = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}

        def blob(descriptor: dict) -> bytes:
            data = content["blobs/" + descriptor["digest"].replace(":", "/")]
            self.assertEqual(hashlib.sha256(data).hexdigest(), descriptor["digest"].removeprefix("sha256:"))
            self.assertEqual(len(data), descriptor["size"])
            return data

        self.assertEqual(json.loads(content["oci-layout"]), {"imageLayoutVersion": "1.0.0"})
        index = json.loads(content["index.json"])
        manifest = json.loads(blob(index["manifests"][0]))
        config = json.loads(blob(manifest["config"]))
        return index, manifest, config, gzip.decompress(blob(manifest["layers"][0]))

    def test_holds_what_was_added_and_nothing_else(self) -> None:
        self.image().write(self.directory / "a.tar")
        index, _, config, layer = self.read(self.directory / "a.tar")
        annotations = index["manifests"][0]["annotations"]
        self.assertEqual(annotations["io.containerd.image.name"], "docker.io/keeper/thing:1.2.3")
        self.assertEqual(annotations["org.opencontainers.image.ref.name"], "1.2.3")
        self.assertEqual(config["config"], {
            "User": "65532:65532",
            "Entrypoint": ["/bin/app"],
            "Cmd": ["serve"],
            "Env": ["A=1", "B=2"],
            "Labels": {"l": "v"},
            "WorkingDir": "/",
        })
        self.assertEqual(config["rootfs"]["diff_ids"], ["sha256:" + hashlib.sha256(layer).hexdigest()])
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            found = [(m.name, oct(m.mode), m.linkname, m.uid, m.gid, m.mtime) for m in tar]
        self.assertEqual(found, [
            ("bin", "0o755", "", 0, 0, 0),
            ("bin/alias", "0o777", "app", 0, 0, 0),
            ("bin/app", "0o755", "", 0, 0, 0),
            ("tmp", "0o1777", "", 0, 0, 0),
        ])

    def test_same_input_same_bytes(self) -> None:
        digests = set()
        for name in ("a.tar", "b.tar"):
            self.image().write(self.directory / name)
            digests.add(hashlib.sha256((self.directory / name).read_bytes()).hexdigest())
        self.assertEqual(len(digests), 1)

    def test_creation_time_is_the_sources(self) -> None:
        with mock.patch.dict(os.environ, {"SOURCE_DATE_EPOCH": "86400"}):
            self.image().write(self.directory / "a.tar")
        self.assertEqual(self.read(self.directory / "a.tar")[2]["created"], "1970-01-02T00:00:00Z")

    def test_the_same_files_are_written_to_a_directory(self) -> None:
        root = self.directory / "root"
        for _again in range(2):
            self.image().unpack(root)
        self.assertEqual((root / "bin/alias").read_bytes(), b"program")
        self.assertEqual((root / "bin/alias").readlink(), Path("app"))
        self.assertEqual((root / "bin/app").stat().st_mode & 0o7777, 0o755)
        self.assertEqual((root / "tmp").stat().st_mode & 0o7777, 0o1777)
        self.assertEqual(self.image().content("/bin/app"), b"program")

    def test_several_architectures_are_one_image(self) -> None:
        arm = self.image()
        arm.architecture = "arm64"
        abouts = oci.write_archive(self.directory / "a.tar", [self.image(), arm])
        with tarfile.open(self.directory / "a.tar") as archive:
            content = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        (top,) = json.loads(content["index.json"])["manifests"]
        self.assertEqual(top["annotations"]["io.containerd.image.name"], "docker.io/keeper/thing:1.2.3")
        platforms = json.loads(content["blobs/" + top["digest"].replace(":", "/")])["manifests"]
        self.assertEqual([each["platform"]["architecture"] for each in platforms], ["amd64", "arm64"])
        self.assertEqual([about["digest"] for about in abouts], [*(each["digest"] for each in platforms), top["digest"]])
        for each in platforms:
            manifest = json.loads(content["blobs/" + each["digest"].replace(":", "/")])
            config = json.loads(content["blobs/" + manifest["config"]["digest"].replace(":", "/")])
            self.assertEqual(config["architecture"], each["platform"]["architecture"])
        # One alone has the digest that it has among others.
        self.assertEqual(self.image().write(self.directory / "b.tar")["digest"], abouts[0]["digest"])
        for images in ([arm, arm], [arm, self.image("docker.io/keeper/other:1.2.3")]):
            with self.assertRaisesRegex(oci.ImageError, "one image, once for each architecture"):
                oci.write_archive(self.directory / "a.tar", images)

    def test_refuses_what_cannot_be_an_image(self) -> None:
        for name in ("keeper/thing", "docker.io/keeper/thing", "docker.io/keeper/thing:", "docker.io/Keeper/thing:1", "thing:1"):
            with self.subTest(name), self.assertRaisesRegex(oci.ImageError, "not a full image name"):
                self.image(name).write(self.directory / "a.tar")
        for path in ("bin/x", "/", "/../x", "/a//b", "/a/"):
            with self.subTest(path), self.assertRaisesRegex(oci.ImageError, "not a clean absolute path"):
                self.image().add_file(path, b"")
        with self.assertRaisesRegex(oci.ImageError, "stands twice"):
            self.image().add_file("/bin/app", b"")
        missing = oci.Image("docker.io/keeper/thing:1", entrypoint=["/app"])
        with self.assertRaisesRegex(oci.ImageError, "entrypoint /app is not among the files"):
            missing.write(self.directory / "a.tar")
        image = self.image()
        image.add_file("/bin/app/below", b"")
        with self.assertRaisesRegex(oci.ImageError, "a directory and something else"):
            image.write(self.directory / "a.tar")


class Binaries(unittest.TestCase):
    def check(self, content: bytes, look=oci.static_architecture) -> str:
        with tempfile.NamedTemporaryFile() as binary:
            binary.write(content)
            binary.flush()
            return look(Path(binary.name))

    def test_one_that_needs_a_loader_has_an_architecture_too(self) -> None:
        self.assertEqual(self.check(elf(3, b"/lib64/ld.so\0", machine=183), oci.architecture), "arm64")

    def test_static_and_static_pie(self) -> None:
        load, dynamic = 1, 2
        self.assertEqual(self.check(elf(load, b"")), "amd64")
        self.assertEqual(self.check(elf(dynamic, struct.pack("<qQqQ", 5, 0, 0, 0), machine=183)), "arm64")

    def test_refuses_what_an_empty_image_cannot_run(self) -> None:
        interpreter, dynamic, needed = 3, 2, 1
        for content, message in (
            (elf(interpreter, b"/lib64/ld.so\0"), "asks for /lib64/ld.so"),
            (elf(dynamic, struct.pack("<qQqQ", needed, 0, 0, 0)), "needs a shared library"),
            (elf(1, b"", machine=8), "machine 8"),
            (b"#!/bin/sh\n", "not a 64-bit"),
        ):
            with self.subTest(message), self.assertRaisesRegex(oci.ImageError, message):
                self.check(content)


if __name__ == "__main__":
    unittest.main()
