//! `keeper-exec [--optional] FILE -- COMMAND [ARGUMENT...]`: becomes COMMAND, with the variables of FILE added to
//! the environment. What can be tested without a process of its own is in the library.
//!
//! The file is mapped, never copied, and ends with the address space. Exit codes are those of a shell: 127, there is no
//! such command; 126, it cannot be run; and 125 for what is wrong with the variables, as `env` has it.

#![no_std]
#![no_main]

mod kernel;

use kernel::{Errno, Process};

/// Longest path of a program, with its NUL byte.
const PATH_MAX: usize = 4096;
/// Where programs are looked for without a `PATH`, as the C library does.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
/// Exit code for what is wrong with the variables or the command line.
const OURS: i32 = 125;
/// Exit code for a command that can't be run.
const CANNOT_RUN: i32 = 126;
/// Exit code for a command that isn't there.
const NOT_FOUND: i32 = 127;

/// Why the command was not started.
struct Failure<'a> {
    code: i32,
    parts: [&'a [u8]; 4],
}

fn main(process: &Process) -> i32 {
    let Failure { code, parts } = run(process);
    kernel::say(b"keeper-exec: ");
    parts.into_iter().for_each(kernel::say);
    kernel::say(b"\n");
    code
}

/// Comes back only if the command was not started.
fn run(process: &Process) -> Failure<'static> {
    let ours = |what: &'static [u8], about: &'static [u8], more: &'static [u8]| Failure {
        code: OURS,
        parts: [what, about, more, b""],
    };
    let mut arguments = process.arguments().skip(1).peekable();
    let optional = arguments.next_if(|a| *a == b"--optional\0").is_some();
    let (Some(file), Some(b"--\0")) = (arguments.next(), arguments.next()) else {
        return ours(
            b"usage: keeper-exec [--optional] FILE -- COMMAND [ARGUMENT...]",
            b"",
            b"",
        );
    };
    let Some(program) = arguments.next() else {
        return ours(b"no command after --", b"", b"");
    };
    let first = if optional { 4 } else { 3 };
    let content = match kernel::map(file) {
        Ok(content) => content,
        Err(Errno::NO_ENTRY) if optional => b"",
        Err(Errno::NO_ENTRY) => {
            return ours(
                b"the variables are not there: ",
                text(file),
                b"; see the logs of keeper-sidecar or keeper-init",
            );
        }
        Err(error) => return ours(b"cannot read ", text(file), error.text()),
    };
    let bad = || ours(text(file), b" is no file of variables of this version", b"");
    let mut count = 0;
    for variable in keeper_exec::variables(content) {
        let Ok(variable) = variable else { return bad() };
        count += 1;
        if !variable.replaces && process.has(variable.name) {
            return ours(
                b"the variable ",
                variable.name,
                b", which comes from a record's field, is the container's own already: rename the field, or set keeper.security/env-prefix (envPrefix in keeper.security/config)",
            );
        }
    }
    let added = || keeper_exec::variables(content).flatten();
    let kept = || {
        process.environment().filter(|entry| {
            let name = keeper_exec::name(entry);
            !added().any(|variable| Some(variable.name) == name)
        })
    };
    let environment = match kernel::pointers(
        kept().chain(added().map(|v| v.entry)),
        kept().count() + count,
    ) {
        Ok(environment) => environment,
        Err(error) => return ours(b"cannot make an environment", error.text(), b""),
    };
    let in_environment = |entry: &&'static [u8]| keeper_exec::name(entry) == Some(b"PATH");
    let path = added()
        .map(|v| v.entry)
        .find(in_environment)
        .or_else(|| kept().find(in_environment));
    let path = path
        .and_then(|entry| text(entry).strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);

    let mut worst = Errno::NO_ENTRY;
    let mut buffer = [0; PATH_MAX];
    keeper_exec::search(text(program), path, &mut buffer, |file| {
        match process.become_program(file, first, environment) {
            Errno::NO_ENTRY | Errno::NO_DIRECTORY => false,
            // As a shell does: something else by that name may be run yet.
            Errno::DENIED => {
                worst = Errno::DENIED;
                false
            }
            other => {
                worst = other;
                true
            }
        }
    });
    match worst {
        Errno::NO_ENTRY => Failure {
            code: NOT_FOUND,
            parts: [text(program), b": not found", b"", b""],
        },
        error => Failure {
            code: CANNOT_RUN,
            parts: [text(program), b": cannot be run", error.text(), b""],
        },
    }
}

/// Without its NUL byte.
fn text(string: &'static [u8]) -> &'static [u8] {
    string.split_last().map_or(b"", |(_, text)| text)
}
