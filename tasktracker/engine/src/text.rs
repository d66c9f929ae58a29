//! How keys and values are written in text output.

use std::{fmt, io::Write};

/// Something that has a place in a line of text output.
///
/// Bytes are written as they are; floats in the shortest decimal form that reads back as the same number; the parts of a
/// tuple are separated by tabs.
pub trait Text {
    /// Appends the text.
    fn write_text(&self, out: &mut Vec<u8>);
}

impl Text for [u8] {
    #[inline]
    fn write_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}
impl Text for str {
    #[inline]
    fn write_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}
impl Text for Vec<u8> {
    fn write_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}
impl Text for String {
    fn write_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}
impl<const N: usize> Text for [u8; N] {
    fn write_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}
impl Text for () {
    fn write_text(&self, _out: &mut Vec<u8>) {}
}
impl<T: Text + ?Sized> Text for &T {
    fn write_text(&self, out: &mut Vec<u8>) {
        T::write_text(self, out);
    }
}

macro_rules! displayed {
    ($($kind:ty),*) => {
        $(impl Text for $kind {
            fn write_text(&self, out: &mut Vec<u8>) {
                display(self, out);
            }
        })*
    };
}
displayed!(u8, u16, u32, u64, usize, i32, i64, f64, bool, fmt::Arguments<'_>);

fn display(what: &dyn fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{what}").expect("a vector takes all that is written to it");
}

impl<A: Text, B: Text> Text for (A, B) {
    fn write_text(&self, out: &mut Vec<u8>) {
        self.0.write_text(out);
        out.push(b'\t');
        self.1.write_text(out);
    }
}
impl<A: Text, B: Text, C: Text> Text for (A, B, C) {
    fn write_text(&self, out: &mut Vec<u8>) {
        self.0.write_text(out);
        out.push(b'\t');
        self.1.write_text(out);
        out.push(b'\t');
        self.2.write_text(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_as_people_expect() {
        let mut out = Vec::new();
        ("ham", -3i64, (0.1f64, true)).write_text(&mut out);
        out.push(b'|');
        (b"\xff".as_slice(), String::from("é")).write_text(&mut out);
        assert_eq!(out, b"ham\t-3\t0.1\ttrue|\xff\t\xc3\xa9");
    }
}
