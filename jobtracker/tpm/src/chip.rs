//! The commands of a TPM 2.0 that a trusted log and its enrolment need, after the TPM 2.0 Library, part 3.
//!
//! All authorisations are the empty password, but for one policy session of enrolment. Keys are made from templates each time, and none is
//! left behind: what a chip holds is little (swtpm has room for three keys). When there is no room, what is loaded is flushed, and the command
//! repeated. That takes nothing from anybody: a resource manager shows only what this connection loaded, and without one there
//! is only one connection at a time, so that what is loaded was left by somebody who went.

use crate::{
    error::TpmError,
    tcti::{HEADER_BYTES, Tcti, Transport},
    wire::{Malformed, Reader, Writer},
};
use quorate_counter::{TpmPoint, key_template, quote::selection_of};
use quorate_protocol::digest::Digest;
use std::{collections::BTreeSet, thread, time::Duration};

/// The hierarchy of the owner.
pub const OWNER: u32 = 0x4000_0001;
/// The hierarchy of the maker, who certifies its key.
pub const ENDORSEMENT: u32 = 0x4000_000b;
const NULL: u32 = 0x4000_0007;
const PASSWORD: u32 = 0x4000_0009;
const SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ECDSA: u16 = 0x0018;

const TAG_PLAIN: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;
const CAP_HANDLES: u32 = 1;
const CAP_PROPERTIES: u32 = 6;
/// Where the handles of keys, and those of sessions, begin.
const TRANSIENT: u32 = 0x8000_0000;
const LOADED_SESSIONS: u32 = 0x0200_0000;
/// Handles of one kind that a chip is asked for.
const HANDLES_MAX: u32 = 64;

/// No room for another key, and for another session.
const NO_ROOM: [u32; 2] = [0x902, 0x903];
/// Yielded, testing, retry: the command is to be sent again.
const AGAIN: [u32; 3] = [0x908, 0x90a, 0x922];
/// How often a command is sent again, and how long apart.
const AGAIN_MAX: u32 = 50;
const AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// What entitles a command to use a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authorisation {
    /// The empty password.
    Password,
    /// A policy session, which ends with the command.
    Policy(u32),
}

/// What nearly every command that needs an authorisation comes with.
pub const PASSWORDS: [Authorisation; 2] = [Authorisation::Password; 2];

/// A command with all its parts.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// What people call it.
    pub name: &'static str,
    /// `TPM_CC`.
    pub code: u32,
    /// What it is about.
    pub handles: &'a [u32],
    /// One for each of the handles that needs it, in their order.
    pub authorisations: &'a [Authorisation],
    /// Its parameters, encoded.
    pub parameters: &'a [u8],
    /// Whether the answer begins with a handle.
    pub gives_handle: bool,
}

/// What a chip answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The handle of what was made, 0 where nothing was.
    pub handle: u32,
    /// Encoded.
    pub parameters: Vec<u8>,
}

impl<'a> Command<'a> {
    /// A command that needs no authorisation and gives no handle.
    pub fn new(name: &'static str, code: u32, handles: &'a [u32], parameters: &'a [u8]) -> Self {
        Self { name, code, handles, authorisations: &[], parameters, gives_handle: false }
    }

    /// The same, with what it needs.
    #[must_use]
    pub fn with(self, authorisations: &'a [Authorisation]) -> Self {
        Self { authorisations, ..self }
    }

    /// The same, with an answer that begins with a handle.
    #[must_use]
    pub fn giving_handle(self) -> Self {
        Self { gives_handle: true, ..self }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Writer::new();
        for handle in self.handles {
            body = body.u32(*handle);
        }
        if !self.authorisations.is_empty() {
            let sessions = self.authorisations.iter().fold(Writer::new(), |area, authorisation| match authorisation {
                Authorisation::Password => area.u32(PASSWORD).sized(&[]).u8(0).sized(&[]),
                Authorisation::Policy(session) => area.u32(*session).sized(&[]).u8(0).sized(&[]),
            });
            let sessions = sessions.done();
            body = body.u32(sessions.len() as u32).bytes(&sessions);
        }
        let body = body.bytes(self.parameters).done();
        let tag = if self.authorisations.is_empty() { TAG_PLAIN } else { TAG_SESSIONS };
        let length = (HEADER_BYTES + body.len()) as u32;
        Writer::new().u16(tag).u32(length).u32(self.code).bytes(&body).done()
    }

    fn decode(&self, bytes: &[u8]) -> Result<Answer, TpmError> {
        let read = || -> Result<Result<Answer, u32>, Malformed> {
            let mut fields = Reader(bytes);
            let (tag, length, code) = (fields.u16()?, fields.u32()?, fields.u32()?);
            if length as usize != bytes.len() {
                return Err(Malformed);
            }
            if code != 0 {
                return Ok(Err(code));
            }
            let handle = if self.gives_handle { fields.u32()? } else { 0 };
            let parameters = if tag == TAG_SESSIONS {
                let length = fields.u32()?;
                fields.take(length as usize)?
            } else {
                fields.0
            };
            Ok(Ok(Answer { handle, parameters: parameters.to_vec() }))
        };
        match read() {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(code)) => Err(TpmError::Refused { command: self.name, code }),
            Err(Malformed) => Err(TpmError::Answer(self.name)),
        }
    }
}

/// A key that is loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// What the chip calls it while it is loaded.
    pub handle: u32,
    /// Its public area, as the chip tells it.
    pub public: Vec<u8>,
}

/// A chip, for one owner.
#[derive(Debug)]
pub struct Chip {
    transport: Transport,
    /// What was loaded through this and not flushed yet.
    held: BTreeSet<u32>,
}

impl Chip {
    /// Goes to a chip.
    ///
    /// # Errors
    /// [`TpmError`]: none is there, or it may not be used.
    pub fn open(tcti: &Tcti) -> Result<Self, TpmError> {
        Ok(Self { transport: Transport::open(tcti)?, held: BTreeSet::new() })
    }

    /// Runs a command. When the chip has no room, what others left loaded is flushed before it is run again.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn run(&mut self, command: &Command<'_>) -> Result<Answer, TpmError> {
        let answer = match self.run_once(command) {
            Err(TpmError::Refused { code, .. }) if NO_ROOM.contains(&code) => {
                self.flush_left(if code == NO_ROOM[0] { TRANSIENT } else { LOADED_SESSIONS })?;
                self.run_once(command)?
            }
            done => done?,
        };
        if command.gives_handle {
            self.held.insert(answer.handle);
        }
        Ok(answer)
    }

    fn run_once(&mut self, command: &Command<'_>) -> Result<Answer, TpmError> {
        let bytes = command.encode();
        for _ in 0..AGAIN_MAX {
            let answer = self.transport.exchange(&bytes).map_err(TpmError::Io)?;
            match command.decode(&answer) {
                Err(TpmError::Refused { code, .. }) if AGAIN.contains(&code) => thread::sleep(AGAIN_PAUSE),
                done => return done,
            }
        }
        Err(TpmError::Refused { command: command.name, code: AGAIN[2] })
    }

    fn flush_left(&mut self, first: u32) -> Result<(), TpmError> {
        let loaded = self.handles(first)?;
        let left: Vec<_> = loaded.into_iter().filter(|handle| !self.held.contains(handle)).collect();
        left.into_iter().try_for_each(|handle| self.flush(handle))
    }

    /// Flushes a key or a session.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn flush(&mut self, handle: u32) -> Result<(), TpmError> {
        self.held.remove(&handle);
        let parameters = Writer::new().u32(handle).done();
        self.run_once(&Command::new("TPM2_FlushContext", 0x165, &[], &parameters)).map(drop)
    }

    /// The handles of what is loaded, or defined, from this one on.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn handles(&mut self, first: u32) -> Result<Vec<u32>, TpmError> {
        let bytes = self.capability(CAP_HANDLES, first, HANDLES_MAX)?;
        let read = || -> Result<Vec<u32>, Malformed> {
            let mut fields = Reader(&bytes);
            let count = fields.u32()?.min(HANDLES_MAX);
            (0..count).map(|_| fields.u32()).collect()
        };
        read().map_err(|Malformed| TpmError::Answer("TPM2_GetCapability"))
    }

    /// A property of the chip, `TPM_PT`: `None` when it has none of that number.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn property(&mut self, number: u32) -> Result<Option<u32>, TpmError> {
        let bytes = self.capability(CAP_PROPERTIES, number, 1)?;
        let read = || -> Result<Option<u32>, Malformed> {
            let mut fields = Reader(&bytes);
            if fields.u32()? == 0 {
                return Ok(None);
            }
            let (tag, value) = (fields.u32()?, fields.u32()?);
            Ok((tag == number).then_some(value))
        };
        read().map_err(|Malformed| TpmError::Answer("TPM2_GetCapability"))
    }

    fn capability(&mut self, capability: u32, first: u32, count: u32) -> Result<Vec<u8>, TpmError> {
        let parameters = Writer::new().u32(capability).u32(first).u32(count).done();
        let answer = self.run_once(&Command::new("TPM2_GetCapability", 0x17a, &[], &parameters))?;
        let mut fields = Reader(&answer.parameters);
        let told = fields.u8().and_then(|_more| fields.u32());
        if told == Ok(capability) { Ok(fields.0.to_vec()) } else { Err(TpmError::Answer("TPM2_GetCapability")) }
    }

    /// The value of a PCR of the SHA-256 bank.
    ///
    /// # Errors
    /// [`TpmError`], also [`TpmError::Bank`].
    pub fn read_pcr(&mut self, pcr: u8) -> Result<Digest, TpmError> {
        let answer = self.run(&Command::new("TPM2_PCR_Read", 0x17e, &[], &selection_of(pcr)))?;
        let read = || -> Result<Option<Digest>, Malformed> {
            let mut fields = Reader(&answer.parameters);
            let (_update_counter, banks) = (fields.u32()?, fields.u32()?);
            if banks == 0 {
                return Ok(None);
            }
            let (_bank, bitmap) = (fields.u16()?, fields.u8()?);
            fields.take(bitmap.into())?;
            if banks > 1 {
                return Err(Malformed);
            }
            if fields.u32()? == 0 {
                return Ok(None);
            }
            let value = fields.sized()?;
            fields.end()?;
            value.try_into().map(|value| Some(Digest::from_bytes(value))).map_err(|_| Malformed)
        };
        read().map_err(|Malformed| TpmError::Answer("TPM2_PCR_Read"))?.ok_or(TpmError::Bank(pcr))
    }

    /// Extends a PCR of the SHA-256 bank.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn extend(&mut self, pcr: u8, digest: Digest) -> Result<(), TpmError> {
        let parameters = Writer::new().u32(1).u16(SHA256).bytes(digest.as_bytes()).done();
        self.run(&Command::new("TPM2_PCR_Extend", 0x182, &[pcr.into()], &parameters).with(&PASSWORDS[..1])).map(drop)
    }

    /// Makes the key of a template in a hierarchy: the same key each time. It stays loaded.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn create_primary(&mut self, hierarchy: u32, template: &[u8]) -> Result<Loaded, TpmError> {
        let sensitive = Writer::new().sized(&[]).sized(&[]).done();
        let parameters = Writer::new().sized(&sensitive).sized(template).sized(&[]).u32(0).done();
        let hierarchies = [hierarchy];
        let command = Command::new("TPM2_CreatePrimary", 0x131, &hierarchies, &parameters);
        let answer = self.run(&command.with(&PASSWORDS[..1]).giving_handle())?;
        match Reader(&answer.parameters).sized() {
            Ok(public) => Ok(Loaded { handle: answer.handle, public: public.to_vec() }),
            Err(Malformed) => {
                self.flush(answer.handle)?;
                Err(TpmError::Answer("TPM2_CreatePrimary"))
            }
        }
    }

    /// Makes a key, does something with it, and flushes it whatever came of that.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn with_primary<T>(
        &mut self,
        hierarchy: u32,
        template: &[u8],
        work: impl FnOnce(&mut Self, &Loaded) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let key = self.create_primary(hierarchy, template)?;
        let done = work(self, &key);
        let flushed = self.flush(key.handle);
        let done = done?;
        flushed.map(|()| done)
    }

    /// Makes the attestation key, and checks that it is what the template says. It stays loaded.
    ///
    /// # Errors
    /// [`TpmError`], also [`TpmError::PublicArea`].
    pub fn attestation_key(&mut self) -> Result<(u32, TpmPoint), TpmError> {
        let key = self.create_primary(OWNER, &key_template())?;
        match point_of(&key.public, key_template().len()).filter(|point| point.public_area() == key.public) {
            Some(point) => Ok((key.handle, point)),
            None => {
                self.flush(key.handle)?;
                Err(TpmError::PublicArea)
            }
        }
    }

    /// Has a loaded key sign the PCRs of a selection, with something of the caller's in it. Gives a certificate's bytes: the quote, and r
    /// and s after it.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn quote(&mut self, key: u32, extra: &[u8], selection: &[u8]) -> Result<Vec<u8>, TpmError> {
        let parameters = Writer::new().sized(extra).u16(ALG_NULL).bytes(selection).done();
        let answer = self.run(&Command::new("TPM2_Quote", 0x158, &[key], &parameters).with(&PASSWORDS[..1]))?;
        signed(&answer.parameters).map_err(|Malformed| TpmError::Answer("TPM2_Quote"))
    }

    /// Begins a policy session whose policy is that the endorsement hierarchy's authorisation is known.
    ///
    /// # Errors
    /// [`TpmError`].
    pub(crate) fn endorsement_session(&mut self) -> Result<u32, TpmError> {
        // The chip wants sixteen bytes of the caller's; they matter where answers are authenticated, which these are not.
        let begin = Writer::new().sized(&[0; 16]).sized(&[]).u8(1).u16(ALG_NULL).u16(SHA256).done();
        let command = Command::new("TPM2_StartAuthSession", 0x176, &[NULL, NULL], &begin);
        let session = self.run(&command.giving_handle())?.handle;
        let policy = Writer::new().sized(&[]).sized(&[]).sized(&[]).u32(0).done();
        let handles = [ENDORSEMENT, session];
        match self.run(&Command::new("TPM2_PolicySecret", 0x151, &handles, &policy).with(&PASSWORDS[..1])) {
            Ok(_) => Ok(session),
            Err(error) => {
                self.flush(session)?;
                Err(error)
            }
        }
    }

    /// Opens a credential: the secret in it, if it was made for these two keys and both are in this chip.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn activate(
        &mut self,
        key: u32,
        endorsement_key: u32,
        credential: &[u8],
        encrypted_seed: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let session = self.endorsement_session()?;
        let parameters = Writer::new().sized(credential).sized(encrypted_seed).done();
        let (handles, authorisations) =
            ([key, endorsement_key], [Authorisation::Password, Authorisation::Policy(session)]);
        let command = Command::new("TPM2_ActivateCredential", 0x147, &handles, &parameters);
        let answer = match self.run(&command.with(&authorisations)) {
            Ok(answer) => {
                self.held.remove(&session);
                answer
            }
            Err(error) => {
                // A session survives a command that was refused.
                self.flush(session)?;
                return Err(error);
            }
        };
        let secret = Reader(&answer.parameters).sized().map(<[u8]>::to_vec);
        secret.map_err(|Malformed| TpmError::Answer("TPM2_ActivateCredential"))
    }

    /// What an NV index holds, up to so many bytes: `None` when there is no such index.
    ///
    /// # Errors
    /// [`TpmError`].
    pub(crate) fn read_nv(&mut self, index: u32, bytes_max: usize) -> Result<Option<Vec<u8>>, TpmError> {
        /// What every chip reads at once.
        const AT_ONCE: usize = 512;
        if !self.handles(index)?.contains(&index) {
            return Ok(None);
        }
        let answer = self.run(&Command::new("TPM2_NV_ReadPublic", 0x169, &[index], &[]))?;
        let malformed = |Malformed| TpmError::Answer("TPM2_NV_Read");
        // The index, its digest, its attributes and its policy stand before its size.
        let size = || -> Result<usize, Malformed> {
            let mut public = Reader(Reader(&answer.parameters).sized()?);
            public.take(4 + 2 + 4)?;
            public.sized()?;
            public.u16().map(usize::from)
        };
        let size = size().map_err(malformed)?.min(bytes_max);
        let mut held = Vec::with_capacity(size);
        while held.len() < size {
            let part = (size - held.len()).min(AT_ONCE);
            let parameters = Writer::new().u16(part as u16).u16(held.len() as u16).done();
            let handles = [index, index];
            let command = Command::new("TPM2_NV_Read", 0x14e, &handles, &parameters);
            let answer = self.run(&command.with(&PASSWORDS[..1]))?;
            let read = Reader(&answer.parameters).sized().map_err(malformed)?;
            if read.len() != part {
                return Err(TpmError::Answer("TPM2_NV_Read"));
            }
            held.extend_from_slice(read);
        }
        Ok(Some(held))
    }
}

/// The point at the end of a public area, of which so many bytes without the point.
pub(crate) fn point_of(public: &[u8], empty_bytes: usize) -> Option<TpmPoint> {
    let read = || -> Result<TpmPoint, Malformed> {
        let mut fields = Reader(public);
        fields.take(empty_bytes.saturating_sub(4))?;
        let point = TpmPoint { x: fields.coordinate()?, y: fields.coordinate()? };
        fields.end()?;
        Ok(point)
    };
    read().ok()
}

/// What was attested, and r and s of 32 bytes each, from how a chip encodes them.
pub(crate) fn signed(parameters: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut fields = Reader(parameters);
    let mut certificate = fields.sized()?.to_vec();
    if (fields.u16()?, fields.u16()?) != (ECDSA, SHA256) {
        return Err(Malformed);
    }
    certificate.extend_from_slice(&fields.coordinate()?);
    certificate.extend_from_slice(&fields.coordinate()?);
    fields.end()?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A hostile chip gets an error and nothing else.
        #[test]
        fn whatever_a_chip_answers_is_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..300), sessions in any::<bool>(), gives_handle in any::<bool>(),
        ) {
            let command = Command { gives_handle, ..Command::new("TPM2_Quote", 0x158, &[], &[]) };
            let tag = if sessions { TAG_SESSIONS } else { TAG_PLAIN };
            let framed = Writer::new().u16(tag).u32(10 + bytes.len() as u32).u32(0).bytes(&bytes).done();
            for answer in [&bytes, &framed] {
                if let Ok(answer) = command.decode(answer) {
                    let _ = signed(&answer.parameters);
                    let _ = point_of(&answer.parameters, 24);
                }
            }
        }
    }
}
