//! `env`: a line `NAME='value'` for each field, as a POSIX shell reads it with `.`. Between single quotes
//! nothing has a meaning but the next one, so a value may hold anything but a NUL byte, newlines too.

use keeper_contract::Format;
use keeper_contract::env_name::env_name;

use super::Buffer;
use super::flat::Flat;

pub(super) const ENV: Flat = Flat {
    format: Format::Env,
    head: "",
    name: |key| env_name("", key),
    entry,
};

fn entry(out: &mut Buffer, key: &str, value: &str) -> Result<(), &'static str> {
    let name = env_name("", key);
    // `_` is the shell's own.
    if name.bytes().all(|byte| byte == b'_') {
        return Err("its name has no ASCII letter or digit");
    }
    if value.contains('\0') {
        return Err("its value holds a NUL byte");
    }
    out.push(&name);
    out.push("='");
    out.escaped(value, |c| c == '\'', |out, _| out.push(r"'\''"));
    out.push("'\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::flat;

    #[test]
    fn values_stand_between_single_quotes() {
        for (value, want) in [
            ("", "A=''\n"),
            ("plain", "A='plain'\n"),
            (r#"$HOME `id` \ " #"#, "A='$HOME `id` \\ \" #'\n"),
            ("it's", "A='it'\\''s'\n"),
            ("''", "A=''\\'''\\'''\n"),
            ("a\nb\n", "A='a\nb\n'\n"),
        ] {
            assert_eq!(
                flat::entry(&ENV, "a", value).as_deref(),
                Ok(want),
                "{value}"
            );
        }
    }

    #[test]
    fn what_a_shell_cannot_hold_is_refused() {
        for (key, value) in [("a", "x\0"), ("", "x"), ("-", "x"), ("ü", "x")] {
            assert!(flat::entry(&ENV, key, value).is_err(), "{key}");
        }
    }
}
