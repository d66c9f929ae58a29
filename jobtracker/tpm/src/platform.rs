//! What a chip says of itself. It is a claim, for people and against mistakes: see the crate's text.

use crate::{chip::Chip, error::TpmError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// `TPM_PT_MANUFACTURER`, `TPM_PT_VENDOR_STRING_1` to `4`, `TPM_PT_FIRMWARE_VERSION_1` and `2`.
const MANUFACTURER: u32 = 0x105;
const VENDOR: [u32; 4] = [0x106, 0x107, 0x108, 0x109];
const FIRMWARE: [u32; 2] = [0x10b, 0x10c];

/// Makers of TPMs that are programs: libtpms and swtpm, Microsoft's reference and Hyper-V, VMware, Google's and Amazon's clouds.
const VIRTUAL_MAKERS: [&str; 5] = ["IBM", "MSFT", "VMW", "GOOG", "AMZN"];

/// A chip's maker, model and firmware, in its own words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Platform {
    /// The maker's four letters.
    pub manufacturer: String,
    /// The maker's name for it.
    pub vendor: String,
    /// The firmware's version, four numbers.
    pub firmware: String,
}

impl Platform {
    /// Asks a chip.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn of(chip: &mut Chip) -> Result<Self, TpmError> {
        let manufacturer = text(&[chip.property(MANUFACTURER)?]);
        let mut words = [None; 4];
        for (word, number) in words.iter_mut().zip(VENDOR) {
            *word = chip.property(number)?;
        }
        let mut parts = Vec::new();
        for number in FIRMWARE {
            let half = chip.property(number)?.unwrap_or_default();
            parts.extend([half >> 16, half & 0xffff].map(|part| part.to_string()));
        }
        Ok(Self { manufacturer, vendor: text(&words), firmware: parts.join(".") })
    }

    /// Whether it says that it is a program. A chip that says nothing of the kind may still be one.
    pub fn is_virtual(&self) -> bool {
        VIRTUAL_MAKERS.contains(&self.manufacturer.as_str()) || self.vendor.starts_with("SW")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\", firmware {}", self.manufacturer, self.vendor, self.firmware)
    }
}

/// Four letters a number; what is no letter of ASCII is left out.
fn text(words: &[Option<u32>]) -> String {
    let bytes = words.iter().flatten().flat_map(|word| word.to_be_bytes());
    let printable: String = bytes.filter(|byte| (0x20..0x7f).contains(byte)).map(char::from).collect();
    printable.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_say_so_are_known() {
        let platform = |manufacturer: &str, vendor: &str| Platform {
            manufacturer: manufacturer.into(),
            vendor: vendor.into(),
            firmware: String::new(),
        };
        for (manufacturer, vendor) in [("IBM", "SW   TPM"), ("MSFT", "xCG fTPM"), ("VMW", ""), ("XYZ", "SW")] {
            assert!(platform(manufacturer, vendor).is_virtual(), "{manufacturer}");
        }
        for (manufacturer, vendor) in [("IFX", "SLB9672"), ("INTC", "Intel"), ("AMD", "AMD"), ("STM", "ST33"), ("", "")]
        {
            assert!(!platform(manufacturer, vendor).is_virtual(), "{manufacturer}");
        }
        assert_eq!(text(&[Some(0x4942_4d00)]), "IBM");
        assert_eq!(text(&[Some(0x5357_2020), Some(0x2054_504d), None, Some(0x0a00_ffff)]), "SW   TPM");
    }
}
