//! The real binary, as images hold it, in front of the real `env`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use proptest::prelude::*;

/// Built once: a profile that aborts on panic is not the one that tests are built with.
static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("freestanding");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--offline",
            "--locked",
            "--quiet",
            "--package",
            "keeper-exec",
        ])
        .args([
            "--features",
            "freestanding",
            "--profile",
            "image",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success());
    target.join("image/keeper-exec")
});

/// A folder with a file of variables.
struct World(tempfile::TempDir);

impl World {
    fn new(file: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("variables"), file).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Started with `has` as the environment.
    fn run(&self, command: &[&str], has: &[(&str, &str)]) -> Output {
        let mut exec = Command::new(&*BINARY);
        exec.arg(self.path("variables")).arg("--").args(command);
        exec.current_dir(self.0.path())
            .env_clear()
            .envs(has.iter().copied());
        exec.output().unwrap()
    }
}

/// Exit code, and what it says.
fn failure(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty());
    (
        output.status.code(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

fn environment(printed: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entries = printed
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty());
    let pairs = entries.map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=').unwrap();
        (entry[..at].to_vec(), entry[at + 1..].to_vec())
    });
    let pairs: Vec<_> = pairs.collect();
    let count = pairs.len();
    let map: BTreeMap<_, _> = pairs.into_iter().collect();
    assert_eq!(map.len(), count, "no variable is there twice");
    map
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_environment_holds_every_byte_but_nul(
        variables in prop::collection::btree_map("[A-Za-z_][-._A-Za-z0-9]{0,20}", prop::collection::vec(1u8..=255, 0..200), 0..12),
        replaces in any::<bool>(),
    ) {
        let mut file = Vec::new();
        for (name, value) in &variables {
            file.push(if replaces { keeper_exec::REPLACES } else { keeper_exec::IS_NEW });
            file.extend_from_slice(name.as_bytes());
            file.push(b'=');
            file.extend_from_slice(value);
            file.push(0);
        }
        let output = World::new(&file).run(&["/usr/bin/env", "-0"], &[("+kept+", "x=y")]);
        let mut want: BTreeMap<Vec<u8>, Vec<u8>> =
            variables.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        want.insert(b"+kept+".to_vec(), b"x=y".to_vec());
        prop_assert_eq!(environment(&output.stdout), want);
    }
}

#[test]
fn all_bytes_at_once_and_the_longest_value() {
    let every: Vec<u8> = (1..=255).collect();
    let longest = vec![b'x'; 128 * 1024 - "L=".len() - 1];
    let file = [b"+ALL=".as_slice(), &every, b"\0+L=", &longest, b"\0"].concat();
    let output = World::new(&file).run(&["/usr/bin/env", "-0"], &[]);
    let got = environment(&output.stdout);
    assert_eq!((&got[&b"ALL"[..]], &got[&b"L"[..]]), (&every, &longest));
    // One byte more than the kernel takes.
    let file = [b"+L=x".as_slice(), &longest, b"\0"].concat();
    let (code, said) = failure(&World::new(&file).run(&["/usr/bin/env"], &[]));
    assert_eq!(code, Some(126));
    assert!(
        said.contains(
            "/usr/bin/env: cannot be run: the environment and the arguments are too long"
        ),
        "{said}"
    );
}

#[test]
fn a_written_name_replaces_and_one_of_the_vault_never_does() {
    let has = [("MODE", "old"), ("MODE2", "old")];
    let output = World::new(b"+MODE=new\0").run(&["/usr/bin/env"], &has);
    assert_eq!(output.stdout, b"MODE2=old\nMODE=new\n");
    let (code, said) = failure(&World::new(b"?A=1\0?MODE=new\0").run(&["/usr/bin/env"], &has));
    assert_eq!(code, Some(125));
    assert!(
        said.contains("MODE") && said.contains("keeper.security/env-prefix"),
        "{said}"
    );
}

#[test]
fn the_command_gets_its_arguments_and_its_name() {
    let arguments = [
        "sh",
        "-c",
        "printf '%s|' \"$0\" \"$@\" \"$A\"",
        "--",
        "",
        "-x",
        "a b",
    ];
    let output = World::new(b"+A=1\0").run(&arguments, &[("PATH", "/nowhere:/bin")]);
    assert_eq!(output.stdout, b"--||-x|a b|1|", "{output:?}");
}

#[test]
fn a_command_is_found_in_the_path_that_it_will_have() {
    let world = World::new(b"+PATH=/usr/bin:/bin\0");
    let output = world.run(&["env"], &[("PATH", "/nowhere")]);
    assert_eq!(output.stdout, b"PATH=/usr/bin:/bin\n");
    let world = World::new(b"");
    assert!(
        world.run(&["env"], &[]).status.success(),
        "without a PATH, where the C library looks"
    );
}

#[test]
fn what_cannot_be_run_has_the_exit_code_of_a_shell() {
    let world = World::new(b"");
    for (name, mode) in [("denied", 0o644), ("data", 0o755)] {
        fs::write(world.path(name), "no program").unwrap();
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let here = world.0.path().to_str().unwrap().to_owned();
    for (command, path, code, says) in [
        ("nope", "/bin", 127, "keeper-exec: nope: not found\n"),
        ("/nope/x", "/bin", 127, "keeper-exec: /nope/x: not found\n"),
        (
            "./denied",
            "/bin",
            126,
            "keeper-exec: ./denied: cannot be run: permission denied\n",
        ),
        (
            "denied",
            &here,
            126,
            "keeper-exec: denied: cannot be run: permission denied\n",
        ),
        (
            "data",
            &here,
            126,
            "keeper-exec: data: cannot be run: it is no program for this machine\n",
        ),
        ("", "/bin", 127, "keeper-exec: : not found\n"),
    ] {
        let output = world.run(&[command], &[("PATH", path)]);
        assert_eq!(failure(&output), (Some(code), says.to_owned()));
    }
}

#[test]
fn what_is_wrong_with_the_variables_is_said() {
    for file in [&b"A=1\0"[..], b"+A=1", b"+=1\0", b"+A=1\0\0", b"junk"] {
        let (code, said) = failure(&World::new(file).run(&["/usr/bin/env"], &[]));
        assert_eq!(code, Some(125));
        assert!(said.contains("no file of variables"), "{said}");
    }
    let world = World::new(b"");
    fs::remove_file(world.path("variables")).unwrap();
    let (code, said) = failure(&world.run(&["/usr/bin/env"], &[]));
    assert_eq!(code, Some(125));
    assert!(
        said.contains("are not there") && said.contains("keeper-sidecar"),
        "{said}"
    );
    let run = |arguments: &[&OsStr]| {
        Command::new(&*BINARY)
            .args(arguments)
            .env_clear()
            .output()
            .unwrap()
    };
    let file = world.path("variables");
    let (optional, dashes, env) = (
        OsStr::new("--optional"),
        OsStr::new("--"),
        OsStr::new("/usr/bin/env"),
    );
    assert!(
        run(&[optional, file.as_ref(), dashes, env])
            .status
            .success()
    );
    for arguments in [
        &[][..],
        &[file.as_ref()],
        &[file.as_ref(), env, env],
        &[file.as_ref(), dashes],
    ] {
        let (code, said) = failure(&run(arguments));
        assert_eq!(code, Some(125), "{said}");
    }
}

/// It is copied into the memory of each pod.
#[test]
fn it_is_small_and_needs_nothing() {
    let binary = fs::read(&*BINARY).unwrap();
    assert!(binary.len() < 64 * 1024, "{} bytes", binary.len());
    let needle = OsStr::new("ld-linux").as_bytes();
    assert!(!binary.windows(needle.len()).any(|window| window == needle));
}
