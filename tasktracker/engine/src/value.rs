//! Values and their byte form: compact, and one form for each value, since segments are voted on byte by byte.
//!
//! | kind | form |
//! |---|---|
//! | `[u8]`, `str`, `Vec<u8>`, `String` | the bytes themselves; their length before them inside of something else |
//! | `u32`, `u64` | base-128 digits, the lowest first, in the shortest form |
//! | `i32`, `i64` | the same of the zigzag number |
//! | `f64` | IEEE bits, little endian |
//! | `bool` | `0` or `1` |
//! | tuples | one after the other |
//! | `Vec<V>` | the number of elements, and each of them |
//! | `Option<V>` | `0`, or `1` and the value |

pub use crate::key::DecodeError;
use crate::varint;

/// Something that map output can carry.
///
/// ```
/// use quorate_engine::value::Value;
/// let mut bytes = Vec::new();
/// 300u64.append(&mut bytes);
/// assert_eq!(bytes, [0xac, 0x02]);
/// assert_eq!(u64::decode(&bytes), Ok(300));
/// ```
pub trait Value {
    /// What a reducer receives: a reference for `[u8]` and `str`, a value for all others.
    type Decoded<'a>;

    /// Appends the value's bytes.
    fn append(&self, out: &mut Vec<u8>);

    /// The value of some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when no value has these bytes.
    fn decode(bytes: &[u8]) -> Result<Self::Decoded<'_>, DecodeError>;

    /// About how many bytes the value keeps outside of itself, for the memory bound of a combiner.
    #[inline]
    fn weight(&self) -> usize {
        0
    }
}

/// A value that decodes to itself and can be kept: what combiners work on. Implemented for all that fit.
pub trait OwnedValue: Clone + for<'a> Value<Decoded<'a> = Self> {}
impl<V: Clone + for<'a> Value<Decoded<'a> = V>> OwnedValue for V {}

/// A value that can stand inside of another one.
pub trait ValuePart: Sized {
    /// Appends the form, which shows where it ends and is at least one byte long.
    fn append(&self, out: &mut Vec<u8>);

    /// Takes the value from the front of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes do not begin with the form of a value.
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError>;

    /// As [`Value::weight`].
    #[inline]
    fn weight(&self) -> usize {
        0
    }
}

impl Value for [u8] {
    type Decoded<'a> = &'a [u8];
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn decode(bytes: &[u8]) -> Result<&[u8], DecodeError> {
        Ok(bytes)
    }
}

impl Value for str {
    type Decoded<'a> = &'a str;
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Result<&str, DecodeError> {
        std::str::from_utf8(bytes).map_err(|_| DecodeError("text"))
    }
}

impl Value for Vec<u8> {
    type Decoded<'a> = Self;
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(bytes.to_vec())
    }
    #[inline]
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Value for String {
    type Decoded<'a> = Self;
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        str::decode(bytes).map(str::to_owned)
    }
    #[inline]
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Value for () {
    type Decoded<'a> = Self;
    #[inline]
    fn append(&self, _out: &mut Vec<u8>) {}
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() { Ok(()) } else { Err(DecodeError("()")) }
    }
}

/// A [`Value`] whose form is the one that it has inside of others.
macro_rules! value {
    (for [$($generics:tt)*] $kind:ty) => {
        impl<$($generics)*> Value for $kind {
            type Decoded<'a> = Self;
            #[inline]
            fn append(&self, out: &mut Vec<u8>) {
                ValuePart::append(self, out);
            }
            #[inline]
            fn decode(mut bytes: &[u8]) -> Result<Self, DecodeError> {
                let value = <Self as ValuePart>::take(&mut bytes)?;
                if bytes.is_empty() { Ok(value) } else { Err(DecodeError(std::any::type_name::<Self>())) }
            }
            #[inline]
            fn weight(&self) -> usize {
                ValuePart::weight(self)
            }
        }
    };
    ($kind:ty) => {
        value!(for [] $kind);
    };
}

impl ValuePart for u64 {
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        varint::append(*self, out);
    }
    #[inline]
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        varint::take(bytes).ok_or(DecodeError("number"))
    }
}
value!(u64);

impl ValuePart for u32 {
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        varint::append(u64::from(*self), out);
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        u64::take(bytes)?.try_into().map_err(|_| DecodeError("u32"))
    }
}
value!(u32);

impl ValuePart for i64 {
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        varint::append(((self << 1) ^ (self >> 63)) as u64, out);
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let zigzag = u64::take(bytes)?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}
value!(i64);

impl ValuePart for i32 {
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        ValuePart::append(&i64::from(*self), out);
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        i64::take(bytes)?.try_into().map_err(|_| DecodeError("i32"))
    }
}
value!(i32);

impl ValuePart for f64 {
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bits().to_le_bytes());
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let (first, rest) = bytes.split_first_chunk().ok_or(DecodeError("f64"))?;
        *bytes = rest;
        Ok(f64::from_bits(u64::from_le_bytes(*first)))
    }
}
value!(f64);

impl ValuePart for bool {
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let (first, rest) = bytes.split_first().ok_or(DecodeError("bool"))?;
        *bytes = rest;
        match first {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError("bool")),
        }
    }
}
value!(bool);

impl ValuePart for Vec<u8> {
    fn append(&self, out: &mut Vec<u8>) {
        varint::append(self.len() as u64, out);
        out.extend_from_slice(self);
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        take_slice(bytes).map(<[u8]>::to_vec)
    }
    fn weight(&self) -> usize {
        self.len()
    }
}

impl ValuePart for String {
    fn append(&self, out: &mut Vec<u8>) {
        varint::append(self.len() as u64, out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        str::decode(take_slice(bytes)?).map(str::to_owned)
    }
    fn weight(&self) -> usize {
        self.len()
    }
}

fn take_slice<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length = usize::try_from(u64::take(bytes)?).map_err(|_| DecodeError("length"))?;
    let (slice, rest) = bytes.split_at_checked(length).ok_or(DecodeError("length"))?;
    *bytes = rest;
    Ok(slice)
}

impl<V: ValuePart> ValuePart for Vec<V> {
    fn append(&self, out: &mut Vec<u8>) {
        varint::append(self.len() as u64, out);
        self.iter().for_each(|value| value.append(out));
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let count = u64::take(bytes)?;
        // Each element takes a byte at least, so a count that lies allocates nothing.
        if count > bytes.len() as u64 {
            return Err(DecodeError("list"));
        }
        (0..count).map(|_| V::take(bytes)).collect()
    }
    fn weight(&self) -> usize {
        size_of_val(self.as_slice()) + self.iter().map(ValuePart::weight).sum::<usize>()
    }
}
value!(for [V: ValuePart] Vec<V>);

impl<V: ValuePart> ValuePart for Option<V> {
    fn append(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.append(out);
        }
    }
    fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        bool::take(bytes)?.then(|| V::take(bytes)).transpose()
    }
    fn weight(&self) -> usize {
        self.as_ref().map_or(0, ValuePart::weight)
    }
}
value!(for [V: ValuePart] Option<V>);

/// A tuple of values, one after the other.
macro_rules! tuple_value {
    ($($name:ident $index:tt),*) => {
        impl<$($name: ValuePart),*> ValuePart for ($($name),*) {
            #[inline]
            fn append(&self, out: &mut Vec<u8>) {
                $(self.$index.append(out);)*
            }
            fn take(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
                Ok(($($name::take(bytes)?),*))
            }
            fn weight(&self) -> usize {
                0 $(+ self.$index.weight())*
            }
        }
        value!(for [$($name: ValuePart),*] ($($name),*));
    };
}
tuple_value!(A 0, B 1);
tuple_value!(A 0, B 1, C 2);
tuple_value!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of<V: Value + ?Sized>(value: &V) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.append(&mut bytes);
        bytes
    }

    macro_rules! round_trip {
        ($($name:ident: $kind:ty = $strategy:expr;)*) => { proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test] fn $name(value in $strategy) {
                let value: $kind = value;
                prop_assert_eq!(<$kind>::decode(&bytes_of(&value)), Ok(value));
            })*
            #[test]
            fn garbage_is_refused_or_is_the_one_form_of_a_value(bytes in some_bytes()) {
                $(if let Ok(value) = <$kind>::decode(&bytes) {
                    prop_assert_eq!(bytes_of(&value), bytes.clone());
                })*
            }
        } };
    }

    fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..12)
    }

    round_trip! {
        u64_values: u64 = prop_oneof![any::<u64>(), 0..300u64];
        u32_values: u32 = any::<u32>();
        i64_values: i64 = prop_oneof![any::<i64>(), -200..200i64];
        i32_values: i32 = any::<i32>();
        f64_values: f64 = any::<f64>();
        bool_values: bool = any::<bool>();
        unit_values: () = Just(());
        bytes_values: Vec<u8> = some_bytes();
        text_values: String = ".{0,5}";
        pairs: (String, u64) = (".{0,5}", any::<u64>());
        triples: (bool, Vec<u8>, i64) = (any::<bool>(), some_bytes(), any::<i64>());
        lists: Vec<(String, u64)> = prop::collection::vec((".{0,3}", any::<u64>()), 0..4);
        options: Option<Vec<u64>> = prop::option::of(prop::collection::vec(any::<u64>(), 0..4));
    }

    #[test]
    fn a_count_that_lies_is_refused() {
        assert!(Vec::<u64>::decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).is_err());
        assert!(<(String, u64)>::decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, b'a', 1]).is_err());
    }

    #[test]
    fn text_and_bytes_are_borrowed() {
        assert_eq!(str::decode(b"ham"), Ok("ham"));
        assert_eq!(<[u8]>::decode(&[0xff]), Ok(&[0xff][..]));
        assert!(str::decode(&[0xff]).is_err());
    }

    #[test]
    fn zigzag_reaches_the_ends() {
        for number in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(i64::decode(&bytes_of(&number)), Ok(number));
        }
        assert_eq!(bytes_of(&-1i64), [1]);
    }
}
