//! Base64 with padding (RFC 4648 section 4), in which meta commands carry binary keys.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The length of the encoding of `len` bytes.
pub(super) const fn encoded_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// Encodes into the front of `out` ([`encoded_len`] bytes); returns the length.
pub(super) fn encode(bytes: &[u8], out: &mut [u8]) -> usize {
    for (group, four) in bytes.chunks(3).zip(out.chunks_exact_mut(4)) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (i, symbol) in four.iter_mut().enumerate() {
            *symbol = if i <= group.len() { ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] } else { b'=' };
        }
    }
    encoded_len(bytes.len())
}

/// Decodes into the front of `out`; returns the length. `None`: not base64, or it does not fit.
pub(super) fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let (groups, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut len = 0;
    for (i, group) in groups.iter().enumerate() {
        let pad = group.iter().rev().take_while(|&&symbol| symbol == b'=').count();
        if pad > 2 || (pad > 0 && i + 1 < groups.len()) {
            return None;
        }
        let mut bits = 0;
        for &symbol in &group[..4 - pad] {
            bits = bits << 6 | u32::from(value(symbol)?);
        }
        let bytes = (bits << (6 * pad)).to_be_bytes();
        let n = 3 - pad;
        out.get_mut(len..len + n)?.copy_from_slice(&bytes[1..1 + n]);
        len += n;
    }
    Some(len)
}

fn value(symbol: u8) -> Option<u8> {
    Some(match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_rfc_4648_section_10() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = [0; 16];
            let len = encode(plain.as_bytes(), &mut out);
            assert_eq!(&out[..len], coded.as_bytes());
            let len = decode(coded.as_bytes(), &mut out).expect("valid");
            assert_eq!(&out[..len], plain.as_bytes());
        }
        for bad in ["Zg", "Zg=", "Z===", "Zg==Zg==", "Zm9*", "===="] {
            assert_eq!(decode(bad.as_bytes(), &mut [0; 16]), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut text = [0; encoded_len(200)];
            let len = encode(&bytes, &mut text);
            let mut back = [0; 200];
            prop_assert_eq!(decode(&text[..len], &mut back), Some(bytes.len()));
            prop_assert_eq!(&back[..bytes.len()], &bytes[..]);
        }

        #[test]
        fn garbage_is_refused_or_decoded(text in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(len) = decode(&text, &mut [0; 48]) {
                prop_assert!(len <= 48);
            }
        }
    }
}
