//! The server public keys that clients are shipped with (protocol section 4.1).
//!
//! One small module, because the list grows with Keeper's clouds: a key that is missing here can be given
//! as `serverPublicKey` in a device config.

use p256::PublicKey;

use crate::encoding;

/// The key that is used when a config names none; Keeper's Python, Rust, Go and .NET clients agree.
pub(crate) const DEFAULT_ID: u32 = 10;

const TABLE: [(u32, &str); 12] = [
    (
        7,
        "BK9w6TZFxE6nFNbMfIpULCup2a8xc6w2tUTABjxny7yFmxW0dAEojwC6j6zb5nTlmb1dAx8nwo3qF7RPYGmloRM",
    ),
    (
        8,
        "BKnhy0obglZJK-igwthNLdknoSXRrGB-mvFRzyb_L-DKKefWjYdFD2888qN1ROczz4n3keYSfKz9Koj90Z6w_tQ",
    ),
    (
        9,
        "BAsPQdCpLIGXdWNLdAwx-3J5lNqUtKbaOMV56hUj8VzxE2USLHuHHuKDeno0ymJt-acxWV1xPlBfNUShhRTR77g",
    ),
    (
        10,
        "BNYIh_Sv03nRZUUJveE8d2mxKLIDXv654UbshaItHrCJhd6cT7pdZ_XwbdyxAOCWMkBb9AZ4t1XRCsM8-wkEBRg",
    ),
    (
        11,
        "BA6uNfeYSvqagwu4TOY6wFK4JyU5C200vJna0lH4PJ-SzGVXej8l9dElyQ58_ljfPs5Rq6zVVXpdDe8A7Y3WRhk",
    ),
    (
        12,
        "BMjTIlXfohI8TDymsHxo0DqYysCy7yZGJ80WhgOBR4QUd6LBDA6-_318a-jCGW96zxXKMm8clDTKpE8w75KG-FY",
    ),
    (
        13,
        "BJBDU1P1H21IwIdT2brKkPqbQR0Zl0TIHf7Bz_OO9jaNgIwydMkxt4GpBmkYoprZ_DHUGOrno2faB7pmTR7HhuI",
    ),
    (
        14,
        "BJFF8j-dH7pDEw_U347w2CBM6xYM8Dk5fPPAktjib-opOqzvvbsER-WDHM4ONCSBf9O_obAHzCyygxmtpktDuiE",
    ),
    (
        15,
        "BDKyWBvLbyZ-jMueORl3JwJnnEpCiZdN7yUvT0vOyjwpPBCDf6zfL4RWzvSkhAAFnwOni_1tQSl8dfXHbXqXsQ8",
    ),
    (
        16,
        "BDXyZZnrl0tc2jdC5I61JjwkjK2kr7uet9tZjt8StTiJTAQQmnVOYBgbtP08PWDbecxnHghx3kJ8QXq1XE68y8c",
    ),
    (
        17,
        "BFX68cb97m9_sweGdOVavFM3j5ot6gveg6xT4BtGahfGhKib-zdZyO9pwvv1cBda9ahkSzo1BQ4NVXp9qRyqVGU",
    ),
    (
        18,
        "BNhngQqTT1bPKxGuB6FhbPTAeNVFl8PKGGSGo5W06xWIReutm6ix6JPivqnbvkydY-1uDQTr-5e6t70G01Bb5JA",
    ),
];

/// The built-in key with this id. Ids 1 to 6 are other names of 7.
pub(crate) fn built_in(id: u32) -> Option<PublicKey> {
    let id = if (1..=6).contains(&id) { 7 } else { id };
    let (_, text) = TABLE.iter().find(|(known, _)| *known == id)?;
    parse(text)
}

/// A key written as base64 of its uncompressed point.
pub(crate) fn parse(text: &str) -> Option<PublicKey> {
    let point = encoding::decode(text)?;
    // Compressed points and the like are no part of the protocol.
    (point.len() == 65).then(|| PublicKey::from_sec1_bytes(&point).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_table_is_a_point_on_the_curve() {
        for id in 1..=18 {
            assert!(built_in(id).is_some(), "{id}");
        }
        assert_eq!(built_in(3), built_in(7));
        for id in [0, 19, 20, u32::MAX] {
            assert!(built_in(id).is_none(), "{id}");
        }
    }
}
