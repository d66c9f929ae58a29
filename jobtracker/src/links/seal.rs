//! The authenticity of frames: each carries a digest, keyed by the link's key, of its number and its content.

/// Bytes of a frame's length, before its content.
pub(super) const LENGTH_BYTES: usize = 4;
/// Bytes of the keyed digest, after it.
pub(super) const MAC_BYTES: usize = 32;

/// One end of a link's frames. They are numbered from 0.
pub(super) struct Seal {
    key: [u8; 32],
    next: u64,
}

impl Seal {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key, next: 0 }
    }

    /// The keyed digest of the next frame.
    pub(super) fn mac(&mut self, content: &[u8]) -> [u8; MAC_BYTES] {
        *self.digest(content).as_bytes()
    }

    /// Whether this is the next frame, as it was sent.
    pub(super) fn is_next(&mut self, content: &[u8], mac: &[u8; MAC_BYTES]) -> bool {
        // Compares in constant time.
        self.digest(content) == *mac
    }

    fn digest(&mut self, content: &[u8]) -> blake3::Hash {
        let number = self.next;
        self.next += 1;
        blake3::Hasher::new_keyed(&self.key).update(&number.to_le_bytes()).update(content).finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_once_in_order_and_unchanged() {
        let (mut sender, mut receiver) = (Seal::new([7; 32]), Seal::new([7; 32]));
        let (one, two) = (sender.mac(b"one"), sender.mac(b"two"));
        assert!(receiver.is_next(b"one", &one));
        assert!(receiver.is_next(b"two", &two));
        for (content, mac) in [(b"one", &one), (b"two", &two)] {
            assert!(!Seal { key: [7; 32], next: 2 }.is_next(content, mac), "replayed");
        }
        assert!(!Seal::new([7; 32]).is_next(b"two", &two), "out of order");
        assert!(!Seal::new([7; 32]).is_next(b"onE", &one), "changed");
        assert!(!Seal::new([8; 32]).is_next(b"one", &one), "of another link");
    }
}
