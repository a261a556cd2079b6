"""The Dockerfiles make the images that images.toml describes: same files, user and entry point."""

import json
import re
import tomllib
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = tomllib.loads((ROOT / "images/images.toml").read_text())


class Dockerfiles(unittest.TestCase):
    def test_agree_with_the_manifest(self) -> None:
        described = {about["dockerfile"]: (name, about) for name, about in IMAGES.items() if "dockerfile" in about}
        self.assertEqual(sorted(described), sorted(path.name for path in ROOT.glob("Dockerfile*")))
        toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
        for path, (name, about) in described.items():
            with self.subTest(path):
                text = (ROOT / path).read_text()
                instructions = re.findall(r"^([A-Z]+) +(.*)$", text, re.MULTILINE)
                build, final = instructions[: instructions.index(("FROM", "scratch"))], instructions[instructions.index(("FROM", "scratch")) :]
                rust = dict(build)["FROM"].removeprefix("rust:").removesuffix("-bookworm AS build")
                self.assertTrue(toolchain.startswith(rust + "."), f"{path} builds with Rust {rust}, the project with {toolchain}")
                self.assertEqual(dict(build)["RUN"], f"images/build --rootfs /rootfs {name}")
                self.assertEqual(final, [
                    ("FROM", "scratch"),
                    ("COPY", "--from=build /rootfs/ /"),
                    *(("ENV", f'{variable}="{value}"') for variable, value in about.get("env", {}).items()),
                    ("USER", about["user"]),
                    ("ENTRYPOINT", json.dumps(about["entrypoint"])),
                ])


if __name__ == "__main__":
    unittest.main()
