//! Finds replicas that answer questions otherwise than the others, although nobody needs their answers.
//!
//! A question is answered by f + 1 replicas, and what the rest would have said stays unheard. An audit hears all of them.
//! Two answers may differ because the replicas had executed differently much. A reply states a history that was executed
//! before the state was looked at, so when a replica's next reply states the same one, its answer was about exactly that
//! state, and then honest replicas say the same.

use super::{
    Client, Distrust,
    link::{Asked, Checked, Link},
};
use futures::future::join_all;
use quorate_protocol::{
    canonical,
    query::{Answer, Question},
};
use std::sync::Arc;
use tokio::time::Instant;

/// How often it is tried to catch the replicas at one state.
const TRIES: u32 = 10;

impl Client {
    /// Asks all replicas the same and compares what they say about the same state. One that answers otherwise than f + 1
    /// others is distrusted from then on; so is whoever was found out earlier by this client or its clones.
    pub async fn audit(&self) -> Vec<Distrust> {
        let asked = Asked::question(canonical::encode(&Question::Trackers), None);
        let deadline = Instant::now() + self.patience.min(super::STATUS_PATIENCE);
        for _ in 0..TRIES {
            let exact = |link: &Arc<Link>| {
                let (link, asked) = (Arc::clone(link), &asked);
                async move { self.exact(&link, asked, deadline).await }
            };
            let all = join_all(self.shared.links.iter().map(exact)).await;
            let answers: Vec<&Checked> = all.iter().flatten().collect();
            if answers.windows(2).all(|pair| pair[0].history == pair[1].history) || Instant::now() >= deadline {
                self.compare(&answers);
                break;
            }
        }
        self.distrusted()
    }

    /// An answer about exactly the history that it states.
    async fn exact(&self, link: &Link, asked: &Asked, deadline: Instant) -> Option<Checked> {
        let mut before = link.call(asked, &self.shared.memory, deadline).await.ok()?;
        for _ in 0..TRIES {
            let after = link.call(asked, &self.shared.memory, deadline).await.ok()?;
            if before.history == after.history {
                return Some(before);
            }
            before = after;
        }
        None
    }

    fn compare(&self, answers: &[&Checked]) {
        for one in answers {
            let at_once: Vec<_> = answers.iter().filter(|other| other.history == one.history).collect();
            let agree = |answer: &Answer| at_once.iter().filter(|other| other.answer == *answer).count();
            let outvoted = at_once.iter().any(|other| agree(&other.answer) >= self.shared.quorum());
            if outvoted && agree(&one.answer) < self.shared.quorum() {
                let what = "it signed another answer about the same state than f + 1 replicas did";
                self.shared.memory.distrust(one.replica, what);
            }
        }
    }
}
