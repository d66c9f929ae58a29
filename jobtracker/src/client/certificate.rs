//! Gathers a job's certificate: what f + 1 replicas agree on, with the signatures of f + 1 of them.
//!
//! Each replica signs in its own name, so its signatures are gathered one by one, and each is checked as a stranger will check it.

use super::{
    Client, ClientError,
    link::{Asked, Backoff, Checked, Link},
};
use crate::certificate::check_endorsement;
use futures::{StreamExt, stream::FuturesUnordered};
use quorate_protocol::{
    canonical,
    certificate::{Certificate, Endorsement},
    digest::Digest,
    ids::{JobId, ReplicaId},
    query::{Answer, Question},
    sign::Signed,
};
use std::collections::BTreeMap;
use tokio::time::Instant;

impl Client {
    /// The certificate of a job that succeeded. The replicas' signatures were checked, and the votes were not.
    ///
    /// # Errors
    /// [`ClientError`]: [`ClientError::Refused`] for a job that has none.
    pub async fn certificate(&self, job: JobId) -> Result<Certificate, ClientError> {
        let Answer::Completion(completion) = self.ask(Question::Completion(job)).await? else {
            return Err(ClientError::WrongKind { expected: "Completion" });
        };
        let endorsements = self.endorsements(job, completion.digest()).await?;
        Ok(Certificate { completion: *completion, endorsements })
    }

    async fn endorsements(&self, job: JobId, completion: Digest) -> Result<Vec<Signed<Endorsement>>, ClientError> {
        let asked = Asked::question(canonical::encode(&Question::Endorsement(job)), self.shared.memory.anchor());
        let deadline = Instant::now() + self.patience;
        let sign = |link| self.endorsement(link, &asked, completion, deadline);
        let mut calls: FuturesUnordered<_> = self.shared.links.iter().map(|link| sign(link)).collect();
        let (mut signed, mut failed) = (BTreeMap::new(), ClientError::Disagreement);
        while let Some(result) = calls.next().await {
            match result {
                Ok((replica, endorsement)) => drop(signed.insert(replica, endorsement)),
                Err(error) => failed = error,
            }
            if signed.len() >= self.shared.quorum() {
                return Ok(signed.into_values().collect());
            }
        }
        Err(failed)
    }

    /// One replica's signature. A replica that does not know of the job's end yet is asked again.
    async fn endorsement(
        &self,
        link: &Link,
        asked: &Asked,
        completion: Digest,
        deadline: Instant,
    ) -> Result<(ReplicaId, Signed<Endorsement>), ClientError> {
        let (replica, memory) = (link.replica(), &self.shared.memory);
        let mut backoff = Backoff::default();
        loop {
            let Checked { answer, .. } = link.call(asked, memory, deadline).await?;
            match answer {
                Answer::Endorsement(signed) => {
                    return match check_endorsement(&self.shared.cluster, completion, &signed) {
                        Ok(endorsed) if endorsed.replica == replica => Ok((replica, *signed)),
                        Ok(_) => Err(ClientError::WrongKind { expected: "its own Endorsement" }),
                        Err(error) => Err(ClientError::Untrustworthy { replica, what: error.to_string() }),
                    };
                }
                Answer::Refused(refusal) if !backoff.wait_until(deadline).await => {
                    return Err(ClientError::Refused(refusal));
                }
                Answer::Refused(_) => {}
                _ => return Err(ClientError::WrongKind { expected: "Endorsement" }),
            }
        }
    }
}
