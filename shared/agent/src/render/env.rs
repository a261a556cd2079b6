//! `env`: a line `NAME='value'` for each field, as a POSIX shell reads it with `.`. Between single quotes
//! nothing has a meaning but the next one, so a value may hold anything but a NUL byte, newlines too.

use keeper_contract::Format;

use super::Buffer;
use super::flat::Flat;

pub(super) const ENV: Flat = Flat {
    format: Format::Env,
    head: "",
    name: |key| env_name("", key),
    entry,
};

/// The environment variable of a field: `prefix` and the field's name in upper case, where everything but
/// ASCII letters and digits is `_`. One that would begin with a digit begins with `_`.
///
/// ```
/// assert_eq!(keeper_agent::env_name("DB_", "API key"), "DB_API_KEY");
/// assert_eq!(keeper_agent::env_name("", "2nd-url"), "_2ND_URL");
/// ```
#[must_use]
pub fn env_name(prefix: &str, key: &str) -> String {
    let name = prefix.chars().chain(key.chars()).map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    });
    let mut name: String = name.collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

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
    fn names_are_what_a_shell_takes() {
        for (prefix, key, want) in [
            ("", "login", "LOGIN"),
            ("DB_", "login", "DB_LOGIN"),
            ("db-", "login", "DB_LOGIN"),
            ("", "oneTimeCode", "ONETIMECODE"),
            ("", "API key (prod)", "API_KEY__PROD_"),
            ("", "Größe", "GR__E"),
            ("", "2fa", "_2FA"),
            ("X", "2fa", "X2FA"),
            ("", "", ""),
        ] {
            assert_eq!(env_name(prefix, key), want, "{prefix} {key}");
        }
    }

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
