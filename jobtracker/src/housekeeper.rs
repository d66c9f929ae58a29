//! The replica's own commands: it says who is absent.

use crate::{
    application::Application,
    client::new_session,
    door::Door,
    liveness::{Presence, Streams},
    order::{Order, Stopped, Submitted},
};
use quorate_protocol::{
    canonical,
    command::{Command, Envelope, Refusal, Request, Sender},
    digest::Digest,
    ids::ReplicaId,
    query::Answer,
    sign::{SecretKey, Signed},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How far a session that was stale is moved on: about a minute, as sessions are numbered by nanoseconds.
const SESSION_STEP: u64 = 1 << 36;

/// Orders the replica's own commands, one after the other.
pub(crate) struct Housekeeper {
    order: Order,
    door: Arc<Door>,
    streams: Streams,
    presence: Presence,
    /// Time between two looks at who is there.
    round: Duration,
    voice: Voice,
}

/// The replica as a sender of commands.
pub(crate) struct Voice {
    cluster: Digest,
    replica: ReplicaId,
    key: SecretKey,
    session: u64,
    sequence: u64,
}

impl Voice {
    pub(crate) fn new(cluster: Digest, replica: ReplicaId, key: SecretKey) -> Self {
        Self { cluster, replica, key, session: new_session(), sequence: 0 }
    }

    fn say(&mut self, command: Command) -> Vec<u8> {
        self.sequence += 1;
        let sender = Sender::Replica(self.replica);
        let Voice { cluster, session, sequence, .. } = *self;
        let request = Request { cluster, sender, session, sequence, seen: None, command };
        canonical::encode(&Envelope { sender, request: Signed::seal(&request, &self.key) })
    }

    /// The other replicas have forgotten this session, because this machine's clock ran ahead once.
    fn begin_anew(&mut self) {
        self.session = new_session().max(self.session.saturating_add(SESSION_STEP));
        self.sequence = 0;
    }
}

impl Housekeeper {
    pub(crate) fn new(order: Order, door: Arc<Door>, streams: Streams, lease: Duration, voice: Voice) -> Self {
        Self { order, door, streams, presence: Presence::new(lease), round: lease / 4, voice }
    }

    /// Runs until it is told to stop or the order stops.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            // An error says that the replica is gone, which is a reason to stop as well.
            _ = stop.wait_for(|stop| *stop) => {}
            Err(Stopped) = self.keep() => {}
        }
    }

    async fn keep(&mut self) -> Result<(), Stopped> {
        loop {
            tokio::time::sleep(self.round).await;
            let live = self.order.read(Application::live).await?;
            for tracker in self.presence.check(tokio::time::Instant::now(), &live, &self.streams) {
                tracing::info!(%tracker, "no sign of life");
                self.order(Command::Absent(tracker)).await?;
            }
        }
    }

    async fn order(&mut self, command: Command) -> Result<(), Stopped> {
        let envelope = self.voice.say(command);
        let admitted = self.door.admit(&envelope).expect("the replica is of its own cluster");
        match self.order.submit(admitted.id, &envelope).await? {
            Submitted::Executed(_, Answer::Refused(Refusal::Stale)) => self.voice.begin_anew(),
            Submitted::Executed(_, Answer::Refused(refusal)) => {
                tracing::error!(%refusal, "the replica's own command was refused");
            }
            // After the next lease it is said again.
            Submitted::Executed(..) | Submitted::Busy => {}
        }
        Ok(())
    }
}
