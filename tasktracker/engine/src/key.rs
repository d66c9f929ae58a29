//! Keys and their order-preserving byte form.
//!
//! The engine sorts, merges and partitions bytes; it never sees a typed key. So a key's byte form must keep the order of
//! its type: `a < b` exactly when `encode(a) < encode(b)`, and equal keys have equal bytes.
//!
//! | kind | form |
//! |---|---|
//! | `[u8]`, `str`, `Vec<u8>`, `String`, `[u8; N]` | the bytes themselves |
//! | unsigned integers | big endian |
//! | signed integers | big endian with the sign bit turned over |
//! | `f64` | IEEE bits arranged so that they sort as [`f64::total_cmp`] |
//! | `bool` | `0` or `1` |
//! | tuples | the components' forms; text or bytes before the last place have `00` written as `00 FF` and end with `00 00` |

/// Why bytes are not the form of a key or value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the bytes are not the form of a {0}")]
pub struct DecodeError(pub &'static str);

/// Something that map output can be keyed by.
///
/// ```
/// use quorate_engine::key::Key;
/// let (mut scratch, key) = (Vec::new(), (String::from("ham"), -3i64));
/// let bytes = key.encode(&mut scratch);
/// assert_eq!(<(String, i64)>::decode(bytes), Ok(key.clone()));
/// // Text and bytes are their own form: nothing is copied.
/// assert_eq!("ham".encode(&mut Vec::new()), b"ham");
/// ```
pub trait Key {
    /// What a reducer receives: a reference for `[u8]` and `str`, a value for all others.
    type Decoded<'a>;

    /// The key's bytes. `scratch` is room for them; kinds that are bytes already do not use it.
    fn encode<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8];

    /// The key of some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when no key has these bytes.
    fn decode(bytes: &[u8]) -> Result<Self::Decoded<'_>, DecodeError>;
}

/// A key that can be a component of a tuple.
pub trait KeyPart: Sized {
    /// Appends the component's form. Unless it stands `last` in the whole key, the form must show where it ends.
    fn append(&self, last: bool, out: &mut Vec<u8>);

    /// Takes the component from the front of `bytes`; the `last` one takes all.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes do not begin with the form of a component.
    fn take(bytes: &mut &[u8], last: bool) -> Result<Self, DecodeError>;
}

impl Key for [u8] {
    type Decoded<'a> = &'a [u8];
    #[inline]
    fn encode<'a>(&'a self, _scratch: &'a mut Vec<u8>) -> &'a [u8] {
        self
    }
    fn decode(bytes: &[u8]) -> Result<&[u8], DecodeError> {
        Ok(bytes)
    }
}

impl Key for str {
    type Decoded<'a> = &'a str;
    #[inline]
    fn encode<'a>(&'a self, _scratch: &'a mut Vec<u8>) -> &'a [u8] {
        self.as_bytes()
    }
    fn decode(bytes: &[u8]) -> Result<&str, DecodeError> {
        std::str::from_utf8(bytes).map_err(|_| DecodeError("text"))
    }
}

/// A [`Key`] of a kind that decodes to itself.
macro_rules! key {
    (for [$($generics:tt)*] $kind:ty) => {
        impl<$($generics)*> Key for $kind {
            type Decoded<'a> = Self;
            #[inline]
            fn encode<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
                scratch.clear();
                self.append(true, scratch);
                scratch
            }
            fn decode(mut bytes: &[u8]) -> Result<Self, DecodeError> {
                let key = Self::take(&mut bytes, true)?;
                if bytes.is_empty() { Ok(key) } else { Err(DecodeError(std::any::type_name::<Self>())) }
            }
        }
    };
    ($kind:ty) => {
        key!(for [] $kind);
    };
}

/// A key of a fixed number of bytes, by its mapping to and from them.
macro_rules! fixed_key {
    ($kind:ty, $to:expr, $from:expr) => {
        impl KeyPart for $kind {
            #[inline]
            fn append(&self, _last: bool, out: &mut Vec<u8>) {
                let to = $to;
                out.extend_from_slice(&to(*self).to_be_bytes());
            }
            fn take(bytes: &mut &[u8], _last: bool) -> Result<Self, DecodeError> {
                let (first, rest) = bytes.split_first_chunk().ok_or(DecodeError(stringify!($kind)))?;
                *bytes = rest;
                let from = $from;
                Ok(from(*first))
            }
        }
        key!($kind);
    };
}

fixed_key!(u8, |n: u8| n, u8::from_be_bytes);
fixed_key!(u16, |n: u16| n, u16::from_be_bytes);
fixed_key!(u32, |n: u32| n, u32::from_be_bytes);
fixed_key!(u64, |n: u64| n, u64::from_be_bytes);
fixed_key!(i32, |n: i32| n ^ i32::MIN, |bytes| i32::from_be_bytes(bytes) ^ i32::MIN);
fixed_key!(i64, |n: i64| n ^ i64::MIN, |bytes| i64::from_be_bytes(bytes) ^ i64::MIN);
fixed_key!(f64, ordered_bits, |bytes| from_ordered_bits(u64::from_be_bytes(bytes)));

const SIGN: u64 = 1 << 63;

/// The bits of a float, arranged so that they sort as [`f64::total_cmp`].
fn ordered_bits(float: f64) -> u64 {
    let bits = float.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn from_ordered_bits(bits: u64) -> f64 {
    f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN })
}

impl KeyPart for bool {
    fn append(&self, _last: bool, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(bytes: &mut &[u8], last: bool) -> Result<Self, DecodeError> {
        match u8::take(bytes, last) {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            _ => Err(DecodeError("bool")),
        }
    }
}
key!(bool);

impl KeyPart for () {
    fn append(&self, _last: bool, _out: &mut Vec<u8>) {}
    fn take(_bytes: &mut &[u8], _last: bool) -> Result<Self, DecodeError> {
        Ok(())
    }
}
key!(());

impl<const N: usize> KeyPart for [u8; N] {
    fn append(&self, _last: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take(bytes: &mut &[u8], _last: bool) -> Result<Self, DecodeError> {
        let (first, rest) = bytes.split_first_chunk().ok_or(DecodeError("byte array"))?;
        *bytes = rest;
        Ok(*first)
    }
}
key!(for [const N: usize] [u8; N]);

impl KeyPart for Vec<u8> {
    #[inline]
    fn append(&self, last: bool, out: &mut Vec<u8>) {
        append_bytes(self, last, out);
    }
    fn take(bytes: &mut &[u8], last: bool) -> Result<Self, DecodeError> {
        take_bytes(bytes, last)
    }
}
key!(Vec<u8>);

impl KeyPart for String {
    #[inline]
    fn append(&self, last: bool, out: &mut Vec<u8>) {
        append_bytes(self.as_bytes(), last, out);
    }
    fn take(bytes: &mut &[u8], last: bool) -> Result<Self, DecodeError> {
        String::from_utf8(take_bytes(bytes, last)?).map_err(|_| DecodeError("text"))
    }
}
key!(String);

fn append_bytes(bytes: &[u8], last: bool, out: &mut Vec<u8>) {
    if last {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn take_bytes(bytes: &mut &[u8], last: bool) -> Result<Vec<u8>, DecodeError> {
    if last {
        return Ok(std::mem::take(bytes).to_vec());
    }
    let mut out = Vec::new();
    loop {
        match bytes {
            [0, 0, rest @ ..] => {
                *bytes = rest;
                return Ok(out);
            }
            [0, 0xff, rest @ ..] => {
                out.push(0);
                *bytes = rest;
            }
            [byte, rest @ ..] if *byte != 0 => {
                out.push(*byte);
                *bytes = rest;
            }
            _ => return Err(DecodeError("component of a tuple")),
        }
    }
}

impl<A: KeyPart, B: KeyPart> KeyPart for (A, B) {
    #[inline]
    fn append(&self, last: bool, out: &mut Vec<u8>) {
        self.0.append(false, out);
        self.1.append(last, out);
    }
    fn take(bytes: &mut &[u8], last: bool) -> Result<Self, DecodeError> {
        Ok((A::take(bytes, false)?, B::take(bytes, last)?))
    }
}
key!(for [A: KeyPart, B: KeyPart] (A, B));

impl<A: KeyPart, B: KeyPart, C: KeyPart> KeyPart for (A, B, C) {
    #[inline]
    fn append(&self, last: bool, out: &mut Vec<u8>) {
        self.0.append(false, out);
        self.1.append(false, out);
        self.2.append(last, out);
    }
    fn take(bytes: &mut &[u8], last: bool) -> Result<Self, DecodeError> {
        Ok((A::take(bytes, false)?, B::take(bytes, false)?, C::take(bytes, last)?))
    }
}
key!(for [A: KeyPart, B: KeyPart, C: KeyPart] (A, B, C));

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Ordering;

    fn bytes_of<K: Key + ?Sized>(key: &K) -> Vec<u8> {
        let mut scratch = vec![9; 3];
        key.encode(&mut scratch).to_vec()
    }

    /// Bytes sort as the keys do, and decode to what they came from.
    fn holds<K>(a: &K, b: &K, order: Ordering)
    where
        K: for<'a> Key<Decoded<'a> = K>,
    {
        assert_eq!(bytes_of(a).cmp(&bytes_of(b)), order);
        for key in [a, b] {
            let bytes = bytes_of(key);
            let again = K::decode(&bytes).expect("own bytes");
            assert_eq!(bytes_of(&again), bytes);
        }
    }

    macro_rules! order_and_round_trip {
        ($($name:ident: $kind:ty = $strategy:expr;)*) => { proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test] fn $name(a in $strategy, b in $strategy) {
                let (a, b): ($kind, $kind) = (a, b);
                holds(&a, &b, a.cmp(&b));
                prop_assert_eq!(<$kind>::decode(&bytes_of(&a)), Ok(a));
            })*
        } };
    }

    /// Bytes in which the escaped ones are frequent.
    fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6)
    }

    order_and_round_trip! {
        u8_keys: u8 = any::<u8>();
        u16_keys: u16 = any::<u16>();
        u32_keys: u32 = any::<u32>();
        u64_keys: u64 = any::<u64>();
        i32_keys: i32 = any::<i32>();
        i64_keys: i64 = any::<i64>();
        bool_keys: bool = any::<bool>();
        array_keys: [u8; 3] = any::<[u8; 3]>();
        vec_keys: Vec<u8> = some_bytes();
        string_keys: String = "[a-c\u{0}é]{0,4}";
        pair_keys: (Vec<u8>, i64) = (some_bytes(), any::<i64>());
        pair_of_bytes: (Vec<u8>, Vec<u8>) = (some_bytes(), some_bytes());
        triple_keys: (String, Vec<u8>, Vec<u8>) = ("[a\u{0}]{0,3}", some_bytes(), some_bytes());
        nested_keys: ((Vec<u8>, Vec<u8>), Vec<u8>) = ((some_bytes(), some_bytes()), some_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn f64_keys(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            holds(&a, &b, a.total_cmp(&b));
        }

        #[test]
        fn garbage_is_refused_or_is_the_one_form_of_a_key(bytes in some_bytes()) {
            fn check<K: for<'a> Key<Decoded<'a> = K>>(bytes: &[u8]) {
                if let Ok(key) = K::decode(bytes) {
                    assert_eq!(bytes_of(&key), bytes);
                }
            }
            check::<u32>(&bytes);
            check::<f64>(&bytes);
            check::<bool>(&bytes);
            check::<()>(&bytes);
            check::<[u8; 2]>(&bytes);
            check::<String>(&bytes);
            check::<(Vec<u8>, String)>(&bytes);
            check::<(String, Vec<u8>, bool)>(&bytes);
        }
    }

    #[test]
    fn special_floats_sort_as_total_cmp() {
        let floats = [-f64::NAN, f64::NEG_INFINITY, -1.0, -0.0, 0.0, f64::MIN_POSITIVE, 1.0, f64::INFINITY, f64::NAN];
        let forms: Vec<_> = floats.iter().map(bytes_of).collect();
        assert!(forms.is_sorted());
        assert_eq!(<f64 as Key>::decode(&bytes_of(&-0.0)).map(f64::to_bits), Ok((-0.0f64).to_bits()));
    }

    #[test]
    fn forms_are_golden() {
        assert_eq!(bytes_of(&-1i32), [0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(bytes_of(&1.5f64), [0xbf, 0xf8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes_of(&(vec![1, 0], vec![0])), [1, 0, 0xff, 0, 0, 0]);
        assert_eq!(bytes_of("é"), "é".as_bytes());
        assert!(str::decode(&[0xff]).is_err());
        assert!(u32::decode(&[0; 5]).is_err());
    }
}
