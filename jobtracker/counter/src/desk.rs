//! The desk in front of a device: submitting never waits for it.
//!
//! A thread owns the device. Whatever is submitted while the device is busy shares its next attestation, so that a chip which
//! needs 50 ms limits latency and not throughput. After an error other than a lost epoch nobody knows what the device holds: the error
//! is reported, what waited is dropped, and the thread ends.

use crate::{
    chain::{Certificate, Epoch, EpochRecord},
    device::{APPEND_DIGESTS_MAX, Attestation, DeviceError, TrustedLog, bounded},
};
use quorate_protocol::digest::Digest;
use std::{
    fmt, io,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
};

/// Orders that may wait for the device.
pub const DESK_QUEUE_MAX: usize = 256;

/// What became of what was submitted, in order.
#[derive(Debug)]
pub enum Completion {
    /// All digests up to this head are attested: those of one order or of several.
    Attested(Attestation),
    /// The device is in a new epoch; the certificate is of its empty chain.
    Renewed(EpochRecord, Certificate),
    /// The epoch is lost, with all that was ordered in it. The device waits to be renewed.
    Lost,
    /// The device failed. Nothing comes after this.
    Failed(DeviceError),
}

/// Why the desk does not take an order.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// [`DESK_QUEUE_MAX`] orders wait already.
    #[error("{DESK_QUEUE_MAX} orders wait for the trusted log already")]
    Full,
    /// The device failed before, as was reported.
    #[error("the trusted log has failed before")]
    Ended,
    /// The order itself is refused.
    #[error(transparent)]
    Refused(#[from] DeviceError),
}

enum Order {
    Append(Vec<Digest>),
    Renew(Epoch),
}

/// The owner of a device.
pub struct Desk {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Desk {
    /// Gives a device its thread. Completions are told to `tell`, on that thread: it should only pass them on.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(device: Box<dyn TrustedLog>, tell: Box<dyn FnMut(Completion) + Send>) -> io::Result<Self> {
        let (orders, inbox) = sync_channel(DESK_QUEUE_MAX);
        let thread = thread::Builder::new().name("trusted-log".into()).spawn(move || work(device, inbox, tell))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Orders digests to be appended, after all that was ordered before. With none, the head as it is then is attested.
    ///
    /// # Errors
    /// [`DeskError`]: nothing was ordered.
    pub fn submit(&self, digests: Vec<Digest>) -> Result<(), DeskError> {
        bounded(&digests)?;
        self.order(Order::Append(digests))
    }

    /// Orders a new epoch, after all that was ordered before.
    ///
    /// # Errors
    /// [`DeskError`]: nothing was ordered.
    pub fn renew(&self, epoch: Epoch) -> Result<(), DeskError> {
        self.order(Order::Renew(epoch))
    }

    /// Waits until all that was ordered is done, and ends the thread. Dropping the desk does the same.
    pub fn stop(self) {
        drop(self);
    }

    fn order(&self, order: Order) -> Result<(), DeskError> {
        let orders = self.orders.as_ref().ok_or(DeskError::Ended)?;
        orders.try_send(order).map_err(|refused| match refused {
            TrySendError::Full(_) => DeskError::Full,
            TrySendError::Disconnected(_) => DeskError::Ended,
        })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.orders = None;
        // A panic of the thread was printed by it; there is nothing to add here.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn work(mut device: Box<dyn TrustedLog>, inbox: Receiver<Order>, mut tell: Box<dyn FnMut(Completion) + Send>) {
    let mut next = inbox.recv().ok();
    while let Some(order) = next.take() {
        let done = match order {
            Order::Append(mut digests) => {
                next = share(&mut digests, &inbox);
                device.append(&digests).map(Completion::Attested)
            }
            Order::Renew(epoch) => renew(device.as_mut(), epoch),
        };
        match done {
            Ok(completion) => tell(completion),
            Err(DeviceError::Lost { .. }) => tell(Completion::Lost),
            Err(error) => {
                // Whoever is told finds the desk closed.
                drop(inbox);
                return tell(Completion::Failed(error));
            }
        }
        next = next.or_else(|| inbox.recv().ok());
    }
}

/// Takes what waits into the same attestation, and gives back the order that does not go into it.
fn share(digests: &mut Vec<Digest>, inbox: &Receiver<Order>) -> Option<Order> {
    while let Ok(order) = inbox.try_recv() {
        match order {
            Order::Append(more) if digests.len() + more.len() <= APPEND_DIGESTS_MAX => digests.extend(more),
            other => return Some(other),
        }
    }
    None
}

fn renew(device: &mut dyn TrustedLog, epoch: Epoch) -> Result<Completion, DeviceError> {
    device.renew(epoch)?;
    let attestation = device.append(&[])?;
    Ok(Completion::Renewed(device.record().clone(), attestation.certificate))
}
