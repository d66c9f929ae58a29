//! Which chunk servers get the next chunk of an upload.
//!
//! What must hold:
//! * PLACE-1: the copies of a chunk are on servers of distinct failure domains, all of them live when it was placed.
//! * PLACE-2: [`RUN_CHUNKS`] consecutive chunks go to the same servers, unless one of them fails: few placements describe
//!   a file, and a map task finds the whole of its split in one place.
//! * PLACE-3: a server that failed gets no more of this upload.

use crate::servers::Servers;
use quorate_protocol::ids::{Domain, TrackerId};
use std::collections::{BTreeMap, BTreeSet};

/// Chunks that go to the same servers.
pub(crate) const RUN_CHUNKS: usize = 16;

/// There are only so many domains whose servers take chunks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooFew {
    pub(crate) domains: usize,
}

/// The placements of one upload.
#[derive(Debug)]
pub(crate) struct Placer {
    domains: BTreeMap<Domain, BTreeSet<TrackerId>>,
    copies: usize,
    /// Where the rotation over equally loaded domains and servers begins: another place for each file.
    offset: usize,
    load: BTreeMap<TrackerId, u64>,
    run: usize,
    current: Vec<TrackerId>,
}

impl Placer {
    pub(crate) fn new(servers: &Servers, copies: usize, offset: u8) -> Self {
        let mut domains: BTreeMap<Domain, BTreeSet<TrackerId>> = BTreeMap::new();
        for (id, server) in servers.iter().filter(|(id, _)| servers.is_live(*id)) {
            domains.entry(server.domain.clone()).or_default().insert(id);
        }
        let offset = usize::from(offset);
        Self { domains, copies, offset, load: BTreeMap::new(), run: 0, current: Vec::new() }
    }

    /// The servers of a chunk.
    pub(crate) fn place(&mut self, chunk: usize) -> Result<Vec<TrackerId>, TooFew> {
        let run = chunk / RUN_CHUNKS;
        let kept = if run == self.run { std::mem::take(&mut self.current) } else { Vec::new() };
        self.run = run;
        self.current = self.fill(&kept)?;
        for server in &self.current {
            *self.load.entry(*server).or_default() += 1;
        }
        Ok(self.current.clone())
    }

    /// The servers that, with those that have a chunk already, make up the copies.
    pub(crate) fn replace(&mut self, have: &[TrackerId]) -> Result<Vec<TrackerId>, TooFew> {
        Ok(self.fill(have)?.into_iter().filter(|server| !have.contains(server)).collect())
    }

    /// Takes a server out. [PLACE-3]
    pub(crate) fn fail(&mut self, server: TrackerId) {
        for servers in self.domains.values_mut() {
            servers.remove(&server);
        }
        self.domains.retain(|_, servers| !servers.is_empty());
        self.current.retain(|its| *its != server);
    }

    /// Adds servers of the least loaded other domains until there are enough. [PLACE-1]
    fn fill(&self, kept: &[TrackerId]) -> Result<Vec<TrackerId>, TooFew> {
        let mut chosen = kept.to_vec();
        let mut free: Vec<_> = self
            .rotated(self.domains.values())
            .filter(|servers| !servers.iter().any(|server| kept.contains(server)))
            .collect();
        free.sort_by_key(|servers| servers.iter().map(|server| self.load_of(*server)).sum::<u64>());
        for servers in free {
            if chosen.len() >= self.copies {
                break;
            }
            chosen.extend(self.rotated(servers.iter()).min_by_key(|server| self.load_of(**server)));
        }
        chosen.sort();
        if chosen.len() < self.copies { Err(TooFew { domains: self.domains.len() }) } else { Ok(chosen) }
    }

    fn load_of(&self, server: TrackerId) -> u64 {
        self.load.get(&server).copied().unwrap_or(0)
    }

    fn rotated<'a, T: 'a>(&self, of: impl ExactSizeIterator<Item = T> + Clone + 'a) -> impl Iterator<Item = T> + 'a {
        let length = of.len().max(1);
        of.clone().cycle().skip(self.offset % length).take(of.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::Server;
    use proptest::prelude::*;

    /// One server for each element: the number of its domain, and whether it is live.
    fn servers(of: &[(u8, bool)]) -> Servers {
        let server = |(domain, live): &(u8, bool)| Server {
            domain: Domain(format!("d{domain}")),
            address: "127.0.0.1:1".to_owned(),
            live: *live,
        };
        of.iter().enumerate().map(|(id, of)| (TrackerId::new(id as u32), server(of))).collect()
    }

    #[test]
    fn runs_share_servers_and_load_is_even() {
        let known = servers(&[(0, true), (1, true), (2, true), (3, true), (4, true)]);
        let mut placer = Placer::new(&known, 2, 7);
        let mut load = BTreeMap::<TrackerId, usize>::new();
        let placed: Vec<_> = (0..5 * RUN_CHUNKS).map(|chunk| placer.place(chunk).expect("enough")).collect();
        for run in placed.chunks(RUN_CHUNKS) {
            assert!(run.iter().all(|servers| *servers == run[0]), "PLACE-2");
            run[0].iter().for_each(|server| *load.entry(*server).or_default() += 1);
        }
        assert_eq!(load.into_values().collect::<Vec<_>>(), [2; 5]);
    }

    #[test]
    fn small_files_begin_at_different_servers() {
        let known = servers(&[(0, true), (1, true), (2, true)]);
        let first: BTreeSet<_> =
            (0..3).map(|offset| Placer::new(&known, 1, offset).place(0).expect("enough")).collect();
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn the_copies_need_as_many_live_domains() {
        let known = servers(&[(0, true), (0, true), (1, false), (2, true)]);
        assert!(Placer::new(&known, 2, 0).place(0).is_ok());
        assert_eq!(Placer::new(&known, 3, 0).place(0), Err(TooFew { domains: 2 }));
        assert_eq!(Placer::new(&servers(&[]), 1, 0).place(0), Err(TooFew { domains: 0 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn copies_are_in_distinct_live_domains_and_failed_servers_get_none(
            of in proptest::collection::vec((0u8..5, any::<bool>()), 1..12),
            copies in 1usize..4,
            offset: u8,
            failures in proptest::collection::vec((0usize..40, 0u32..12), 0..6),
        ) {
            let known = servers(&of);
            let mut placer = Placer::new(&known, copies, offset);
            let mut failed = BTreeSet::new();
            for chunk in 0..40 {
                for (_, server) in failures.iter().filter(|(at, _)| *at == chunk) {
                    placer.fail(TrackerId::new(*server));
                    failed.insert(TrackerId::new(*server));
                }
                let there: BTreeSet<_> = known
                    .iter()
                    .filter(|(id, server)| server.live && !failed.contains(id))
                    .map(|(_, server)| &server.domain)
                    .collect();
                match placer.place(chunk) {
                    Err(few) => {
                        prop_assert_eq!(few.domains, there.len());
                        prop_assert!(there.len() < copies);
                    }
                    Ok(chosen) => {
                        let domains: BTreeSet<_> =
                            chosen.iter().filter_map(|id| known.get(*id)).map(|server| &server.domain).collect();
                        prop_assert_eq!(domains.len(), copies);
                        prop_assert!(domains.is_subset(&there));
                        prop_assert!(chosen.iter().all(|id| known.is_live(*id) && !failed.contains(id)));
                    }
                }
            }
        }
    }
}
