//! Every wrapping and key form is read, every mistake is named, no value is repeated.

use std::collections::BTreeMap;

use super::*;

const CLIENT_ID: &str =
    "far85+HMs3WsHwFkv8cfLgS3U26RCfX44h0s+xCw7i017l4jzzVKghYBLc809v2807OmOMdtLkz617bg1JRn0Q==";
const PRIVATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEOK5jVLcA8t7YkwkQVbYW8nVnR64beRDYJX0oU5UpumhRANCAAQojw2VhGQID8l3q4UtzVkFeWGQjpWJ+x9ORcwWrqeHehwrvH0MVOcbWVF8EJXx4bhrowQeYqoMOFEq3yVZRlwV";
const CLIENT_POINT: &str =
    "BCiPDZWEZAgPyXerhS3NWQV5YZCOlYn7H05FzBaup4d6HCu8fQxU5xtZUXwQlfHhuGujBB5iqgw4USrfJVlGXBU=";
const APP_KEY: &str = "hQ+0fahxXZXAuT0ZoDVjecMI/jwuODlnObYO9NIz9pM=";
const SERVER_POINT: &str =
    "BNx0WLVolil2fgU_RUT4Vu6x7kZu1cP9h4ZPJHSVcq6X8rELsDHKiZ_Gyvea5vHJrjq4lA8lf-PnnMPSRT7FdBA";

/// A good config with `changes` made; null removes a key.
fn json(changes: &[(&str, &str)]) -> String {
    let mut config: BTreeMap<&str, String> = [
        ("hostname", "keepersecurity.eu"),
        ("clientId", CLIENT_ID),
        ("privateKey", PRIVATE_KEY),
        ("appKey", APP_KEY),
        ("appOwnerPublicKey", "whatever"),
    ]
    .map(|(key, value)| (key, format!("\"{value}\"")))
    .into();
    for (key, value) in changes {
        config.insert(key, (*value).to_owned());
    }
    let members: Vec<String> = config.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
    format!("{{{}}}", members.join(","))
}

fn parse(changes: &[(&str, &str)]) -> Result<DeviceConfig, ConfigError> {
    DeviceConfig::parse(json(changes).as_bytes())
}

#[test]
fn json_and_base64_of_it_in_every_wrapping() {
    // Characters that make base64 use both alphabets and padding.
    let json = format!(" {} ", json(&[("note", r#""???>>>~~~ üü""#)]));
    let standard = encoding::encode(json.as_bytes());
    let url = standard.replace('+', "-").replace('/', "_");
    let lines: Vec<&str> = standard
        .as_bytes()
        .chunks(76)
        .map(|l| std::str::from_utf8(l).unwrap())
        .collect();
    assert!(standard.contains(['+', '/']));
    for text in [
        json.clone(),
        format!("\u{feff}{json}\n"),
        standard.clone(),
        format!("\n {standard}\r\n"),
        standard.trim_end_matches('=').to_owned(),
        url.clone(),
        url.trim_end_matches('=').to_owned(),
        lines.join("\n"),
    ] {
        let config = DeviceConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.hostname(), "keepersecurity.eu");
        assert_eq!(config.server_key.id, server_keys::DEFAULT_ID);
    }
}

#[test]
fn every_pkcs8_form_gives_the_same_public_point() {
    let full = encoding::decode(PRIVATE_KEY).unwrap();
    let (scalar, point) = (&full[36..68], &full[full.len() - 65..]);
    let algorithm = &full[6..27];
    let curve = [&[0xa0, 0x0a][..], &algorithm[11..]].concat();
    let public = [&[0xa1, 0x44, 0x03, 0x42, 0x00][..], point].concat();
    let der = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        let len = u8::try_from(content.len()).unwrap();
        let head = if len < 128 {
            vec![tag, len]
        } else {
            vec![tag, 0x81, len]
        };
        [head, content].concat()
    };
    let mut lengths = Vec::new();
    for optional in [
        vec![public.as_slice()],
        vec![curve.as_slice(), &public],
        vec![],
        vec![curve.as_slice()],
    ] {
        let key = der(0x04, &[scalar]);
        let mut inner: Vec<&[u8]> = vec![&[2, 1, 1], &key];
        inner.extend(optional);
        let key = der(
            0x30,
            &[&[2, 1, 0], algorithm, &der(0x04, &[&der(0x30, &inner)])],
        );
        lengths.push(key.len());
        let key = format!("\"{}\"", encoding::encode(&key));
        let config = parse(&[("privateKey", &key)]).unwrap();
        let point = config.private_key.public_key().to_sec1_bytes();
        assert_eq!(encoding::encode(&point), CLIENT_POINT);
    }
    assert_eq!(lengths, [138, 150, 67, 79]);
}

#[test]
fn the_server_key_is_built_in_or_given() {
    for id in ["7", "\"7\""] {
        let key = parse(&[("serverPublicKeyId", id)]).unwrap().server_key;
        assert_eq!((key.id, key.custom), (7, false));
    }
    for id in ["null", "\"\""] {
        assert_eq!(
            parse(&[("serverPublicKeyId", id)]).unwrap().server_key.id,
            10
        );
    }
    let custom = format!("\"{SERVER_POINT}\"");
    let key = parse(&[
        ("serverPublicKeyId", "\"99\""),
        ("serverPublicKey", &custom),
    ]);
    let key = key.unwrap().server_key;
    assert_eq!((key.id, key.custom), (99, true));
    assert_eq!(
        parse(&[("serverPublicKeyId", "99")]).unwrap_err(),
        ConfigError::UnknownServerKey(99)
    );
    for id in ["-1", "1.5", "\"x\"", "[]", "true"] {
        let error = parse(&[("serverPublicKeyId", id)]).unwrap_err();
        assert!(error.to_string().contains("serverPublicKeyId"), "{error}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for key in ["hostname", "clientId", "privateKey", "appKey"] {
        for nothing in ["null", "\"\""] {
            assert_eq!(
                parse(&[(key, nothing)]).unwrap_err(),
                ConfigError::Missing(key)
            );
        }
    }
}

#[test]
fn no_message_repeats_a_value() {
    for key in [
        "hostname",
        "clientId",
        "privateKey",
        "appKey",
        "serverPublicKey",
        "serverPublicKeyId",
    ] {
        for value in [
            "\"CANARY!\"",
            "[\"CANARY!\"]",
            "{\"CANARY!\":1}",
            "\"Q0FOQVJZIQ==\"",
        ] {
            let error = parse(&[(key, value)]).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(key), "{shown}");
            assert!(
                !shown.contains("CANARY") && !shown.contains("Q0FO"),
                "{shown}"
            );
        }
    }
    let broken = r#"{"privateKey":"CANARY!","appKey":CANARY}"#;
    let error = DeviceConfig::parse(broken.as_bytes()).unwrap_err();
    assert!(matches!(error, ConfigError::Json { .. }));
    assert!(!error.to_string().contains("CANARY"));
    assert!(!format!("{:?}", parse(&[]).unwrap()).contains("hQ+0"));
}

#[test]
fn hosts_are_names_with_an_optional_port() {
    for host in [
        "keepersecurity.com",
        "localhost:8443",
        "127.0.0.1:443",
        "a-b.c",
    ] {
        assert_eq!(
            parse(&[("hostname", &format!("\"{host}\""))])
                .unwrap()
                .hostname(),
            host
        );
    }
    for host in [
        "a/b",
        "user@host",
        "a b",
        "a?x",
        "a#x",
        "https://a",
        "a:0",
        "a:65536",
        "a:",
        ":1",
        "a:1:2",
        "a..b",
        "-a",
        "ä.de",
        ".",
        "[::1]",
        "a\\u0000b",
        "a%2fb",
    ] {
        let error = parse(&[("hostname", &format!("\"{host}\""))]).unwrap_err();
        assert!(
            matches!(
                error,
                ConfigError::Invalid {
                    key: "hostname",
                    ..
                }
            ),
            "{host}"
        );
    }
}

#[test]
fn a_token_is_told_from_a_config() {
    let key = "-J-gp7WQTNuI-aDYCN31ot-e6wDns-jTeblI7TPWiOg";
    for token in [
        key.to_owned(),
        format!("US:{key}"),
        format!(" eu:{key}\n"),
        format!("keeper.example:{key}"),
        format!("localhost:8443:{key}"),
        format!("IL5:{key}:20:{SERVER_POINT}"),
        "US:xxxxx".to_owned(),
        encoding::encode(format!("US:{key}").as_bytes()),
    ] {
        let error = DeviceConfig::parse(token.as_bytes()).unwrap_err();
        assert_eq!(error, ConfigError::OneTimeToken, "{token}");
        assert!(error.to_string().contains("ksm init"));
    }
    // A config that was never bound holds one too.
    let unbound = [("appKey", "null"), ("clientKey", "\"x\"")];
    assert_eq!(parse(&unbound).unwrap_err(), ConfigError::OneTimeToken);
}

#[test]
fn anything_else_is_refused() {
    for (bytes, want) in [
        (&b""[..], ConfigError::Empty),
        (b" \n", ConfigError::Empty),
        (b"\xff\xfe", ConfigError::NotAConfig),
        (b"hello world", ConfigError::NotAConfig),
        (b"[]", ConfigError::NotAConfig),
        (b"{", ConfigError::Json { line: 1, column: 1 }),
    ] {
        assert_eq!(DeviceConfig::parse(bytes).unwrap_err(), want);
    }
    let large = vec![b' '; MAX_BYTES + 1];
    assert_eq!(
        DeviceConfig::parse(&large).unwrap_err(),
        ConfigError::TooLarge
    );
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, text: String) {
        let _ = DeviceConfig::parse(&bytes);
        let _ = DeviceConfig::parse(text.as_bytes());
        let _ = DeviceConfig::parse(format!("{{{text}").as_bytes());
    }

    #[test]
    fn no_value_panics(value: String) {
        let value = serde_json::to_string(&value).unwrap();
        for key in ["hostname", "clientId", "privateKey", "appKey", "serverPublicKey", "serverPublicKeyId"] {
            let _ = parse(&[(key, &value)]);
        }
    }
}
