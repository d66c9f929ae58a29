//! The trusted log: one PCR, extended once for each position, quoted once for all that came together.
//!
//! A log goes on after its process ended, as long as the chip was not reset, restarted or suspended and nothing else has extended the PCR:
//! the PCR then stands where the kept place says that it may stand. Otherwise the epoch is lost, and the next one begins.
//!
//! After each quote the log checks its own certificate as any verifier would. What fails then is told, and the log does nothing more until
//! it is opened again.

use crate::{
    chip::Chip,
    error::TpmError,
    place::{Place, PlaceFile},
    platform::Platform,
    tcti::Tcti,
};
use quorate_counter::{
    APPEND_DIGESTS_MAX, Approval, Attestation, Certificate, DeviceError, Epoch, EpochRecord, Head, LogKey, Rejection,
    STATIC_PCRS, TpmDevice, TpmFault, TpmKey, TrustedLog,
    quote::{Quote, selection_of, split},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId, sign::PublicKey};
use std::path::PathBuf;

/// How a replica's chip is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub tcti: Tcti,
    /// The chip as it was enrolled.
    pub device: TpmDevice,
    /// Who may bring another chip into the cluster, as the replica's configuration says.
    pub authority: Option<PublicKey>,
    /// The authority's approval, when this chip is not the one that the cluster is configured with.
    pub approval: Option<Approval>,
    /// Whether a virtual TPM will do. It is as trustworthy as whoever can put its state back.
    pub allow_software_tpm: bool,
    /// The file that the log keeps its place in.
    pub state: PathBuf,
}

/// A trusted log in a TPM.
#[derive(Debug)]
pub struct TpmLog {
    chip: Chip,
    /// Whether the chip says that it is a program.
    is_virtual: bool,
    /// The attestation key, while this log is open.
    key: u32,
    settings: Settings,
    place: PlaceFile,
    record: EpochRecord,
    head: Head,
    /// Nobody knows where the chip stands.
    failed: bool,
}

impl TpmLog {
    /// Opens a replica's log. It goes on where it was, or begins an epoch: number 0 when there is no place yet, and otherwise the next one.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn open(settings: Settings, cluster: Digest, replica: ReplicaId) -> Result<Self, TpmError> {
        if settings.device.pcr >= STATIC_PCRS {
            return Err(TpmError::Pcr(settings.device.pcr));
        }
        let mut chip = Chip::open(&settings.tcti)?;
        let platform = Platform::of(&mut chip)?;
        let is_virtual = platform.is_virtual();
        if is_virtual && !settings.allow_software_tpm {
            return Err(TpmError::Virtual(platform.to_string()));
        }
        let (place, kept) = PlaceFile::open(&settings.state, cluster, replica)?;
        let (key, point) = chip.attestation_key()?;
        // The key of no boot: no certificate counts for it.
        let nowhere = key_in(&settings, (0, 0), Digest::from_bytes([0; 32]));
        let first = EpochRecord { cluster, replica, epoch: Epoch(0), key: nowhere };
        let head = first.genesis();
        // From here on the key is flushed by dropping the log.
        let mut log = Self { chip, is_virtual, key, settings, place, record: first, head, failed: false };
        if point != log.settings.device.key {
            return Err(TpmError::OtherKey);
        }
        log.take_up(kept)?;
        Ok(log)
    }

    /// Whether the chip says that it is a program, as virtual TPMs do.
    pub fn is_virtual(&self) -> bool {
        self.is_virtual
    }

    /// Goes on in the kept epoch, if that is possible, or begins one.
    fn take_up(&mut self, kept: Option<Place>) -> Result<(), TpmError> {
        let Some(place) = kept else { return self.begin(Epoch(0)) };
        let next = Epoch(place.record.epoch.0.saturating_add(1));
        let LogKey::Tpm(key) = &place.record.key else { return self.begin(next) };
        let (boot, start) = (self.boot()?, key.start);
        if place.record.key != key_in(&self.settings, boot, start) {
            return self.begin(next);
        }
        let pcr = self.chip.read_pcr(self.settings.device.pcr)?;
        match locate(&place, pcr) {
            Some(head) => (self.record, self.head) = (place.record, head),
            // The process ended after it kept the beginning of the epoch, and before it extended the PCR.
            None if pcr == start && place.pending.is_empty() && place.head == place.record.genesis() => {
                self.chip.extend(self.settings.device.pcr, place.record.begin())?;
                (self.record, self.head) = (place.record, place.head);
            }
            None => return self.begin(next),
        }
        self.attest().map(drop)
    }

    /// Begins an epoch, from whatever value the PCR has.
    fn begin(&mut self, epoch: Epoch) -> Result<(), TpmError> {
        let pcr = self.settings.device.pcr;
        let start = self.chip.read_pcr(pcr)?;
        let boot = self.boot()?;
        let key = key_in(&self.settings, boot, start);
        let record = EpochRecord { epoch, key, ..self.record.clone() };
        let head = record.genesis();
        let place = Place { record: record.clone(), head, pending: Vec::new() };
        self.place.keep(place, true).map_err(TpmError::Storage)?;
        self.chip.extend(pcr, record.begin())?;
        (self.record, self.head) = (record, head);
        self.attest().map(drop)
    }

    /// Which boot the chip is in: its reset and restart counts. Only the key's own quotes tell, for a chip adds a number to them,
    /// another one for each key.
    fn boot(&mut self) -> Result<(u32, u32), TpmError> {
        let certificate = self.chip.quote(self.key, &[], &selection_of(self.settings.device.pcr))?;
        let quote = split(&certificate).and_then(|(quote, _)| Quote::read(quote));
        let quote = quote.ok_or(TpmError::Answer("TPM2_Quote"))?;
        if quote.firmware != self.settings.device.firmware {
            return Err(TpmError::OtherFirmware);
        }
        Ok((quote.reset_count, quote.restart_count))
    }

    fn attest(&mut self) -> Result<Attestation, TpmError> {
        let certificate = self.chip.quote(self.key, &[], &selection_of(self.settings.device.pcr))?;
        let certificate = Certificate(certificate);
        match self.record.verify(self.head, &certificate) {
            Ok(()) => Ok(Attestation { head: self.head, certificate }),
            Err(Rejection::Tpm(TpmFault::Value)) => Err(TpmError::InUse(self.settings.device.pcr)),
            Err(Rejection::Tpm(fault)) => Err(TpmError::Quote { fault }),
            Err(Rejection::Certificate | Rejection::TooLong { .. }) => Err(TpmError::Answer("TPM2_Quote")),
        }
    }

    fn add(&mut self, digests: &[Digest]) -> Result<Attestation, TpmError> {
        if !digests.is_empty() {
            let place = Place { record: self.record.clone(), head: self.head, pending: digests.to_vec() };
            self.place.keep(place, false).map_err(TpmError::Storage)?;
            digests.iter().try_for_each(|digest| self.chip.extend(self.settings.device.pcr, *digest))?;
            self.head = self.record.extend(self.head, digests.iter().copied());
        }
        self.attest()
    }

    /// Does something after which, if it fails, the log is at an unknown place.
    fn risk<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, TpmError>) -> Result<T, DeviceError> {
        if self.failed {
            return Err(TpmError::Failed.into());
        }
        let done = work(self);
        self.failed = done.is_err();
        Ok(done?)
    }
}

/// The key of an epoch in a boot, given by the chip's reset and restart counts.
fn key_in(settings: &Settings, (reset_count, restart_count): (u32, u32), start: Digest) -> LogKey {
    let Settings { device, authority, approval, .. } = settings;
    let (device, authority, approval) = (*device, *authority, *approval);
    LogKey::Tpm(Box::new(TpmKey { device, reset_count, restart_count, start, authority, approval }))
}

/// Where the log stands when the PCR has this value, if it is one that the place allows.
fn locate(place: &Place, pcr: Digest) -> Option<Head> {
    let mut head = place.head;
    let mut pending = place.pending.iter();
    while head.chain != pcr {
        head = place.record.extend(head, [*pending.next()?]);
    }
    Some(head)
}

impl TrustedLog for TpmLog {
    fn record(&self) -> &EpochRecord {
        &self.record
    }

    fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError> {
        if digests.len() > APPEND_DIGESTS_MAX {
            return Err(DeviceError::TooMany { got: digests.len() });
        }
        self.risk(|log| log.add(digests))
    }

    fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError> {
        let have = self.record.epoch;
        if epoch <= have {
            return Err(DeviceError::NotAbove { asked: epoch, have });
        }
        self.risk(|log| log.begin(epoch))
    }
}

impl Drop for TpmLog {
    fn drop(&mut self) {
        // When it cannot be reached there is nothing to flush, and nobody to tell.
        let _ = self.chip.flush(self.key);
    }
}
