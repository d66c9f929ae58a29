//! The replica's own commands: it lets ordered time pass when a deadline waits for it, and says who is absent.

use crate::{
    application::Application,
    client::new_session,
    liveness::{Presence, Streams},
    order::{Order, Stopped, wall_clock},
};
use quorate_protocol::{
    command::{Command, Envelope, Request, Sender},
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
    query::Answer,
    sign::{SecretKey, Signed},
};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// The least time between two ticks, whatever the deadlines say.
const TICK_PAUSE_MS: u64 = 10;

/// Orders the replica's own commands, one after the other.
pub(crate) struct Housekeeper {
    order: Order,
    streams: Streams,
    presence: Presence,
    /// Time between two looks at who is there.
    round: Duration,
    voice: Voice,
}

/// The replica as a sender of commands.
struct Voice {
    cluster: Digest,
    replica: ReplicaId,
    key: SecretKey,
    session: u64,
    sequence: u64,
}

impl Voice {
    fn say(&mut self, command: Command) -> Envelope {
        self.sequence += 1;
        let sender = Sender::Replica(self.replica);
        let Voice { cluster, session, sequence, .. } = *self;
        Envelope { sender, request: Signed::seal(&Request { cluster, sender, session, sequence, command }, &self.key) }
    }
}

impl Housekeeper {
    pub(crate) async fn new(
        order: Order,
        streams: Streams,
        lease: Duration,
        cluster: Digest,
        replica: ReplicaId,
        key: SecretKey,
    ) -> Result<Self, Stopped> {
        let sender = Sender::Replica(replica);
        let session = order.read(move |state| state.sessions().fresh(&sender, new_session())).await?;
        let voice = Voice { cluster, replica, key, session, sequence: 0 };
        Ok(Self { order, streams, presence: Presence::new(lease), round: lease / 4, voice })
    }

    /// Runs until it is told to stop or the order stops.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut executed = self.order.executed();
        let mut next_round = Instant::now();
        let mut ticked = OrderedTime(0);
        while !*stopping.borrow() {
            executed.borrow_and_update();
            let Ok(deadline) = self.order.read(|state| state.scheduler().next_deadline()).await else { return };
            let deadline = deadline.map(|deadline| deadline.max(ticked.after(TICK_PAUSE_MS)));
            let done = if deadline.is_some_and(|deadline| deadline <= wall_clock()) {
                ticked = wall_clock();
                self.order(Command::Tick).await
            } else if next_round <= Instant::now() {
                next_round = Instant::now() + self.round;
                self.look_around().await
            } else {
                tokio::select! {
                    stop = stopping.changed() => stop.map_err(|_| Stopped),
                    changed = executed.changed() => changed.map_err(|_| Stopped),
                    () = tokio::time::sleep(deadline.map_or(Duration::MAX, until)) => Ok(()),
                    () = tokio::time::sleep_until(next_round) => Ok(()),
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn look_around(&mut self) -> Result<(), Stopped> {
        let live = self.order.read(Application::live).await?;
        for tracker in self.presence.check(Instant::now(), &live, &self.streams) {
            tracing::info!(%tracker, "no sign of life");
            self.order(Command::Absent(tracker)).await?;
        }
        Ok(())
    }

    async fn order(&mut self, command: Command) -> Result<(), Stopped> {
        let answer = self.order.submit(self.voice.say(command)).await?;
        if let Answer::Refused(refusal) = answer {
            tracing::error!(%refusal, "the replica's own command was refused");
        }
        Ok(())
    }
}

/// From now to an ordered time by this machine's clock.
fn until(deadline: OrderedTime) -> Duration {
    Duration::from_millis(deadline.since(wall_clock()))
}
