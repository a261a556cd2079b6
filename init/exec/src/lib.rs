//! The environment of a container that is started through `keeper-exec`: the pure part.
//!
//! The agent leaves a file of variables on the pod's volume in memory; `keeper-exec` adds them to what the container
//! has, and becomes the container's own command. The file holds each variable as the kernel takes it, so that its
//! bytes are never copied: a byte that says who named it, and `NAME=VALUE`, ended by a NUL byte:
//!
//! ```text
//! +DB_PASSWORD=s3cr3t\0      the pod's owner wrote the name out: it replaces the container's own
//! ?LOGIN=app\0               the name comes from the vault: one that the container has is an error
//! ```

#![no_std]
#![forbid(unsafe_code)]

/// First byte of a variable that replaces one of the container's own.
pub const REPLACES: u8 = b'+';
/// First byte of a variable that must not be there already.
pub const IS_NEW: u8 = b'?';

/// A variable of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable<'f> {
    /// Whether it may replace one of the container's own.
    pub replaces: bool,
    /// Its name.
    pub name: &'f [u8],
    /// `NAME=VALUE` and the NUL byte.
    pub entry: &'f [u8],
}

/// The file is not what an agent of this version writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFile;

/// The variables of a file.
pub fn variables(file: &[u8]) -> impl Iterator<Item = Result<Variable<'_>, BadFile>> {
    file.split_inclusive(|byte| *byte == 0).map(variable)
}

fn variable(text: &[u8]) -> Result<Variable<'_>, BadFile> {
    let (kind, entry) = text.split_first().ok_or(BadFile)?;
    let replaces = match *kind {
        REPLACES => true,
        IS_NEW => false,
        _ => return Err(BadFile),
    };
    let name = name(entry).filter(|name| is_name(name)).ok_or(BadFile)?;
    match entry.last() {
        Some(0) => Ok(Variable {
            replaces,
            name,
            entry,
        }),
        _ => Err(BadFile),
    }
}

/// The name in an entry of an environment.
#[must_use]
pub fn name(entry: &[u8]) -> Option<&[u8]> {
    entry
        .split(|byte| *byte == b'=')
        .next()
        .filter(|name| name.len() < entry.len())
}

/// Whether Kubernetes takes it as the name of an environment variable.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    let takes = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    name.iter().all(takes) && name.first().is_some_and(|first| !first.is_ascii_digit())
}

/// Where a shell looks for `program`, in order: as it stands if it holds a slash, else in each directory of
/// `path`, whose empty ones are the working directory. Each is written into `buffer`, with a NUL byte behind it,
/// and given to `attempt`, until that says that it is enough. One that is too long is passed over, and nothing is
/// called "".
pub fn search(
    program: &[u8],
    path: &[u8],
    buffer: &mut [u8],
    mut attempt: impl FnMut(&[u8]) -> bool,
) {
    let mut try_in = |directory: &[u8]| {
        let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        let parts = [directory, slash, program, b"\0"];
        let mut room = buffer.iter_mut();
        for byte in parts.into_iter().flatten() {
            match room.next() {
                Some(place) => *place = *byte,
                None => return false,
            }
        }
        let left = room.len();
        let length = buffer.len().saturating_sub(left);
        attempt(buffer.get(..length).unwrap_or_default())
    };
    if program.contains(&b'/') {
        try_in(b"");
    } else if !program.is_empty() {
        let _found = path.split(|byte| *byte == b':').any(try_in);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn variables_are_taken_as_they_stand() {
        let all: Result<Vec<_>, _> = variables(b"+A=1\0?B.c-d=x=y\n\xff\0+_=\0").collect();
        let all = all.unwrap();
        let seen: Vec<_> = all.iter().map(|v| (v.replaces, v.name, v.entry)).collect();
        assert_eq!(
            seen,
            [
                (true, &b"A"[..], &b"A=1\0"[..]),
                (false, b"B.c-d", b"B.c-d=x=y\n\xff\0"),
                (true, b"_", b"_=\0"),
            ]
        );
        assert_eq!(variables(b"").count(), 0);
    }

    #[test]
    fn anything_else_is_refused() {
        for file in [
            &b"A=1\0"[..],
            b"+A=1",
            b"+A\0",
            b"+=1\0",
            b"+1A=\0",
            b"+A B=\0",
            b"+\xc3=\0",
            b"\0",
            b"+A=1\0\0",
            b"-A=1\0",
        ] {
            assert!(variables(file).any(|v| v == Err(BadFile)), "{file:?}");
        }
    }

    #[test]
    fn a_program_is_looked_for_as_a_shell_does() {
        for (program, path, room, want) in [
            (
                &b"/bin/app"[..],
                &b"/usr/bin"[..],
                64,
                &[&b"/bin/app\0"[..]][..],
            ),
            (b"./app", b"/usr/bin", 64, &[b"./app\0"]),
            (
                b"app",
                b"/bin:/usr/bin",
                64,
                &[b"/bin/app\0", b"/usr/bin/app\0"],
            ),
            (b"app", b":/bin", 64, &[b"app\0", b"/bin/app\0"]),
            (b"app", b"", 64, &[b"app\0"]),
            (b"", b"/bin", 64, &[]),
            (b"app", b"/a/long/directory:/bin", 9, &[b"/bin/app\0"]),
        ] {
            let mut seen = Vec::new();
            search(program, path, &mut std::vec![0; room], |file| {
                seen.push(file.to_vec());
                false
            });
            assert_eq!(seen, want, "{program:?}");
        }
        let mut seen = 0;
        search(b"app", b"/a:/b:/c", &mut [0; 64], |file| {
            seen += 1;
            file.starts_with(b"/b")
        });
        assert_eq!(seen, 2);
    }
}
