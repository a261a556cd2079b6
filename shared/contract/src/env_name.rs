//! Names of environment variables: how a field is called as one, and which a vault may not choose.

/// The environment variable of a field: `prefix` and the field's name in upper case, where everything but
/// ASCII letters and digits is `_`. One that would begin with a digit begins with `_`.
///
/// ```
/// use keeper_contract::env_name::env_name;
/// assert_eq!(env_name("DB_", "API key"), "DB_API_KEY");
/// assert_eq!(env_name("", "2nd-url"), "_2ND_URL");
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

/// Whether Kubernetes has always taken `name` as the name of an environment variable (its `IsEnvVarName`).
#[must_use]
pub fn is_env_name(name: &str) -> bool {
    let takes = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    name.bytes().all(takes) && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// Why a vault may not choose a name: whoever edits a record must not gain code in the pod.
///
/// # Errors
/// What is wrong with it, as an end of a sentence.
pub fn check_vault_name(name: &str) -> Result<(), &'static str> {
    if name.bytes().all(|byte| byte == b'_') {
        return Err("has no ASCII letter or digit in it");
    }
    let names = name.strip_prefix('_').unwrap_or(name);
    let is_refused = REFUSED.contains(&name)
        || REFUSED.contains(&names)
        || REFUSED_BEGINNINGS
            .iter()
            .any(|begin| name.starts_with(begin));
    match is_refused {
        true => Err("is one by which programs load or run code, so that no vault may set it"),
        false => Ok(()),
    }
}

/// By which a shell, a loader or a language's runtime runs code, or looks for it.
const REFUSED: &[&str] = &[
    "PATH",
    "BASH_ENV",
    "ENV",
    "IFS",
    "PS4",
    "PROMPT_COMMAND",
    "SHELLOPTS",
    "BASHOPTS",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "NODE_OPTIONS",
    "NODE_PATH",
    "JAVA_TOOL_OPTIONS",
    "JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "DOTNET_STARTUP_HOOKS",
    "OPENSSL_CONF",
    "GIT_SSH_COMMAND",
];

/// The same for everything that begins so.
const REFUSED_BEGINNINGS: &[&str] = &["LD_", "PYTHON", "PERL5", "RUBY"];

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_kubernetes_takes() {
        for name in ["A", "_", "a.b-c", "DB_PASSWORD2", "-x"] {
            assert!(is_env_name(name), "{name}");
        }
        for name in ["", "2FA", "A B", "A=B", "Ä", "A\0", "A$"] {
            assert!(!is_env_name(name), "{name}");
        }
    }

    #[test]
    fn a_vault_gains_no_code_by_a_name() {
        for name in [
            "PATH",
            "LD_PRELOAD",
            "LD_",
            "BASH_ENV",
            "ENV",
            "IFS",
            "NODE_OPTIONS",
            "PYTHONPATH",
            "PYTHON",
            "PERL5LIB",
            "RUBYOPT",
            "RUBY",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "",
            "_",
            "___",
        ] {
            assert!(check_vault_name(name).is_err(), "{name}");
        }
        for name in [
            "LOGIN",
            "DB_PATH",
            "PATHS",
            "OLD_PASSWORD",
            "LDAP",
            "ENVIRONMENT",
            "_2FA",
            "PERL",
        ] {
            assert!(check_vault_name(name).is_ok(), "{name}");
        }
    }
}
