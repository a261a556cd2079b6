//! Base64 as Keeper's servers and tools write it: either alphabet, padded or not, within one answer
//! (protocol section 1).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes either alphabet, with or without padding; nothing is skipped.
pub(crate) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim_end_matches('=').as_bytes();
    let standard = if text.iter().any(|b| matches!(b, b'-' | b'_')) {
        Cow::Owned(text.iter().copied().map(to_standard).collect())
    } else {
        Cow::Borrowed(text)
    };
    let mut out = Zeroizing::new(Vec::new());
    LENIENT.decode_vec(&standard, &mut out).ok()?;
    Some(out)
}

/// Padded, standard alphabet: what headers carry.
pub(crate) fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn to_standard(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<Vec<u8>> {
        decode(text).map(|b| b.to_vec())
    }

    #[test]
    fn either_alphabet_padded_or_not() {
        let want = Some(vec![0xff, 0xfe, 0x3f, 0x3e]);
        for text in ["//4/Pg==", "//4/Pg", "__4_Pg==", "__4_Pg", "_/4_Pg="] {
            assert_eq!(bytes(text), want, "{text}");
        }
        assert_eq!(bytes(""), Some(vec![]));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["a", "ab c", "ab\nc", "ab=c", "äb", "a.b."] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_encoded_is_decoded(data: Vec<u8>) {
            assert_eq!(bytes(&encode(&data)), Some(data));
        }

        #[test]
        fn no_text_panics(text: String) {
            decode(&text);
        }
    }
}
