"""The SBOMs and licences that go into the images: run with `python3 -m unittest discover images`, after `images/spdx/run install`."""

import json
import os
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

import binaries
import notices
import oci
import parts
import sbom

IMAGES = tomllib.loads((binaries.ROOT / "images/images.toml").read_text())


def part(name: str, version: str = "1.0.0", **more) -> parts.Part:
    return parts.Part(name, version, "MIT", **more)


class Directory(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def file(self, name: str, content: bytes = b"") -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def validate(self, document: bytes) -> subprocess.CompletedProcess:
        command = [binaries.ROOT / "images/spdx/run", "validate", self.file("document.spdx.json", document)]
        return subprocess.run(command, capture_output=True, text=True)


class OfTheImages(Directory):
    """What cargo says of the images as they are; their binaries need not be built for it."""

    def programs(self, name: str) -> list[parts.Program]:
        about = IMAGES[name]
        paths = [*about["binaries"], *about.get("freestanding", {}).get("binaries", {})]
        return parts.programs(about, binaries.ARCHITECTURES[binaries.native()], {path: self.file(path[1:]) for path in paths})

    def test_spdx_takes_them(self) -> None:
        for name, about in IMAGES.items():
            with self.subTest(name):
                image = oci.Image(f"docker.io/{about['repository']}:1.2.3")
                checked = self.validate(sbom.document(image, "Apache-2.0", self.programs(name)))
                self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def test_list_what_is_linked_and_nothing_else(self) -> None:
        names = {name: {found for program in self.programs(name) for found, _ in program.parts} for name in IMAGES}
        for name, found in names.items():
            with self.subTest(name):
                self.assertLessEqual({"ring", "rustls", "tokio", "rust-std", "libc6-dev"}, found)
                # A test's, a build script's, a procedural macro, and another system's.
                self.assertFalse({"proptest", "cc", "serde_derive", "syn", "windows-sys"} & found)
        self.assertIn("kube", names["webhook"])
        self.assertIn("opentelemetry", names["webhook"], "a feature that the image is built with")
        self.assertNotIn("kube", names["sidecar"])
        (exec_, sidecar) = sorted(self.programs("sidecar"), key=lambda program: program.path)
        self.assertEqual({name for name, _ in exec_.parts}, {"rust-std"})
        self.assertGreater(len(sidecar.parts), 100)

    def test_each_part_can_be_looked_up(self) -> None:
        for each in {each for name in IMAGES for program in self.programs(name) for each in program.parts.values()}:
            with self.subTest(each.name):
                ours = each.name.startswith("keeper-")
                self.assertEqual(each.purl is None, ours, "no registry has our own, and somebody else could take the name")
                self.assertEqual(each.sha256 is None, ours or not each.purl.startswith("pkg:cargo/"))

    def test_each_licence_has_its_text(self) -> None:
        for name in IMAGES:
            with self.subTest(name):
                programs = self.programs(name)
                text = notices.text({each for program in programs for each in program.parts.values()})
                for phrase in ("ring 0.", "GNU Lesser General Public License", "Apache License", "Mozilla" if name != "sim" else "MIT"):
                    self.assertIn(phrase, text)
        bare = part("bare", purl="pkg:cargo/bare@1.0.0", texts=self.directory)
        with self.assertRaisesRegex(oci.ImageError, "bare 1.0.0 is under MIT and ships no text of it"):
            notices.text({bare})


class Documents(Directory):
    def program(self) -> parts.Program:
        root, one, other = part("app"), part("one", purl="pkg:cargo/one@1.0.0"), part("one", "2.0.0+x", purl="pkg:cargo/one@2.0.0%2Bx")
        needs = {(root.key, one.key), (one.key, other.key)}
        return parts.Program("/app", self.file("app", b"program"), root, {one.key: one, other.key: other}, needs)

    def document(self, version: str = "1.2.3") -> bytes:
        return sbom.document(oci.Image(f"docker.io/keeper/app:{version}"), "Apache-2.0", [self.program()])

    def test_says_what_holds_and_needs_what(self) -> None:
        document = json.loads(self.document())
        found = {(r["spdxElementId"], r["relationshipType"], r["relatedSpdxElement"]) for r in document["relationships"]}
        self.assertEqual(found, {
            ("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image"),
            ("SPDXRef-image", "CONTAINS", "SPDXRef-app"),
            ("SPDXRef-app", "DEPENDS_ON", "SPDXRef-one-1.0.0"),
            ("SPDXRef-one-1.0.0", "DEPENDS_ON", "SPDXRef-one-2.0.0-x"),
        })

    def test_same_image_same_bytes_and_another_one_another_namespace(self) -> None:
        self.assertEqual(self.document(), self.document())
        with mock.patch.dict(os.environ, {"SOURCE_DATE_EPOCH": "86400"}):
            later = json.loads(self.document())
        self.assertEqual(later["creationInfo"]["created"], "1970-01-02T00:00:00Z")
        namespaces = {json.loads(self.document(version))["documentNamespace"] for version in ("1", "2")}
        self.assertEqual(len(namespaces | {later["documentNamespace"]}), 3)

    def test_the_validator_finds_what_is_wrong(self) -> None:
        bad = json.loads(self.document())
        bad["packages"][0]["licenseDeclared"] = "My own"
        checked = self.validate(json.dumps(bad).encode())
        self.assertEqual(checked.returncode, 1)
        self.assertIn("My own", checked.stderr)

    def test_a_binary_that_names_another_crate_is_refused(self) -> None:
        program = self.program()
        program.file.write_bytes(b"\0/cargo/registry/src/index-1/one-1.0.0/src/lib.rs\0/cargo/registry/src/index-1/two-b-0.1.2-rc.1/src/x.rs\0")
        with self.assertRaisesRegex(oci.ImageError, "holds two-b 0.1.2-rc.1, which cargo tree doesn't list"):
            parts.check(program)


class Trees(unittest.TestCase):
    def test_are_read(self) -> None:
        root, needs = parts.read_tree("0app v0.1.0 (/src/app)\n1a v1.0.0\n2b_c v2.0.0-rc.1+x\n1d v3.0.0\n2b_c v2.0.0-rc.1+x (*)\n")
        self.assertEqual(root, ("app", "0.1.0"))
        self.assertEqual(needs, {
            (root, ("a", "1.0.0")),
            (("a", "1.0.0"), ("b_c", "2.0.0-rc.1+x")),
            (root, ("d", "3.0.0")),
            (("d", "3.0.0"), ("b_c", "2.0.0-rc.1+x")),
        })

    def test_that_make_no_sense_are_refused(self) -> None:
        for text in ("", "warning: something\n", "0app\n"):
            with self.subTest(text), self.assertRaises(oci.ImageError):
                parts.read_tree(text)

    def test_old_licences_become_expressions(self) -> None:
        self.assertEqual([parts.expression(text) for text in ("MIT/Apache-2.0", "Apache-2.0 / MIT", "MIT")], [
            "MIT OR Apache-2.0", "Apache-2.0 OR MIT", "MIT"])


if __name__ == "__main__":
    unittest.main()
