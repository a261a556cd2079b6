"""Builds an image's static binaries with cargo, for the machine's own architecture or, with Debian's cross compiler, for another."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import oci

ROOT = Path(__file__).resolve().parent.parent
# A target folder of its own, since other flags than the usual would rebuild that one's content each time.
TARGET_DIRECTORY = ROOT / "target/images"


@dataclass(frozen=True)
class Architecture:
    """A processor that images are built for."""

    oci: str
    # Rust's name, and GNU's, with which the names of Debian's compilers begin.
    target: str
    gnu: str

    @property
    def native(self) -> bool:
        return self.oci == native()

    @property
    def c_compiler(self) -> str:
        """What compiles ring's C and links."""
        return "cc" if self.native else f"{self.gnu}-gcc"


ARCHITECTURES = {
    "amd64": Architecture("amd64", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu"),
    "arm64": Architecture("arm64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu"),
}


def native() -> str:
    """This machine's architecture, by OCI's name."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def wanted() -> list[Architecture]:
    """Those that IMAGE_ARCHES names (`amd64,arm64`), or this machine's."""
    names = os.environ.get("IMAGE_ARCHES") or native()
    unknown = [name for name in names.split(",") if name not in ARCHITECTURES]
    if unknown:
        raise oci.ImageError(f"IMAGE_ARCHES names {unknown[0]!r}; there are {', '.join(ARCHITECTURES)}")
    return [ARCHITECTURES[name] for name in dict.fromkeys(names.split(","))]


def build(about: dict, architecture: Architecture) -> dict[str, Path]:
    """Builds an image's package alone, so that no other package's features unify with its own; path in the image -> file."""
    profile = os.environ.get("IMAGE_PROFILE", "image")
    cargo_home = os.environ.get("CARGO_HOME", str(Path.home() / ".cargo"))
    # No path of the building machine in panic messages, and the same binary wherever it is built.
    remap = [f"--remap-path-prefix={ROOT}=/src", f"--remap-path-prefix={cargo_home}=/cargo"]
    flags = [
        "-Ctarget-feature=+crt-static",
        # The system call itself: the fallback for old kernels would look symbols up at run time, which a static binary can't.
        '--cfg=getrandom_backend="linux_getrandom"',
        *remap,
        # 24 bytes for each relocation become one bit: 140 kB less to store and to keep in memory. A linker that can't says so and goes on.
        "-Clink-arg=-Wl,-z,pack-relative-relocs",
    ]
    if "linker-script" in about:
        flags.append(f"-Clink-arg=-Wl,-T,{ROOT / about['linker-script']}")
    command = ["cargo", "build", "--locked", "--profile", profile, *selection(about, architecture), "--target-dir", TARGET_DIRECTORY]
    for binary in sorted(set(about["binaries"].values())):
        command += ["--bin", binary]
    environment = {name: value for name, value in os.environ.items() if name != "RUSTFLAGS"}
    environment["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join(flags)
    if not architecture.native:
        environment[f"CARGO_TARGET_{architecture.target.upper().replace('-', '_')}_LINKER"] = architecture.c_compiler
        environment[f"CC_{architecture.target.replace('-', '_')}"] = architecture.c_compiler
    for setting in ("panic", "opt-level"):
        if setting in about:
            environment[f"CARGO_PROFILE_{profile.upper()}_{setting.upper().replace('-', '_')}"] = about[setting]
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    folder = TARGET_DIRECTORY / architecture.target / ("debug" if profile == "dev" else profile)
    built = {path: folder / binary for path, binary in about["binaries"].items()}
    if "freestanding" in about:
        built |= _build_freestanding(about["freestanding"], architecture, environment, remap)
    for path in built.values():
        if (found := oci.static_architecture(path)) != architecture.oci:
            raise oci.ImageError(f"{path} is for {found}, not {architecture.oci}")
    return built


def selection(about: dict, architecture: Architecture) -> list[str]:
    """What of the workspace is built: arguments that cargo's commands share. With --target, flags for rustc don't reach build
    scripts and procedural macros, which can't be static."""
    features = ["--features", ",".join(about["features"])] if "features" in about else []
    return ["--package", about["package"], *features, "--target", architecture.target]


def _build_freestanding(about: dict, architecture: Architecture, environment: dict[str, str], flags: list[str]) -> dict[str, Path]:
    """Builds a package without the standard library, always with the profile `image`, which aborts on panic; it takes a second."""
    command = ["cargo", "build", "--locked", "--profile", "image", *selection(about | {"features": ["freestanding"]}, architecture)]
    command += ["--target-dir", TARGET_DIRECTORY]
    environment = {name: value for name, value in environment.items() if not name.startswith("CARGO_PROFILE_")}
    environment["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join(flags)
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    return {path: TARGET_DIRECTORY / architecture.target / "image" / binary for path, binary in about["binaries"].items()}
