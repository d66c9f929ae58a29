//! What an append costs with each software backend: `cargo run --release -p quorate-counter --example append_cost -- DIRECTORY`

use quorate_counter::{Durability, Epoch, Software, TrustedLog, helper};
use quorate_protocol::{digest::Digest, ids::ReplicaId, sign::SecretKey};
use std::{env, error::Error, path::PathBuf, thread, time::Duration, time::Instant};

const ROUNDS: u32 = 2_000;

fn measure(name: &str, log: &mut dyn TrustedLog) -> Result<(), Box<dyn Error>> {
    let digest = Digest::of(b"a statement");
    for group in [1, 64] {
        let digests = vec![digest; group];
        let start = Instant::now();
        for _ in 0..ROUNDS {
            log.append(&digests)?;
        }
        println!("{name}, {group} at once: {:.1} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
    let attestation = log.append(&[])?;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        log.record().verify(attestation.head, &attestation.certificate)?;
    }
    println!("{name}, verify: {:.1} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).map_or_else(env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let (key, cluster, replica) = (SecretKey::from_seed([1; 32]), Digest::of(b"cluster"), ReplicaId::new(0));
    measure("in memory", &mut Software::new(key.clone(), cluster, replica, Epoch(0)))?;
    for durability in [Durability::Process, Durability::Machine] {
        let path = folder.path().join(format!("{durability:?}"));
        let mut log = Software::open_with(&path, key.clone(), cluster, replica, durability)?;
        measure(&format!("on file, outliving the {durability:?}").to_lowercase(), &mut log)?;
    }
    let socket = folder.path().join("socket");
    let listener = helper::listen(&socket, helper::own_user())?;
    let log = Box::new(Software::new(key, cluster, replica, Epoch(0)));
    thread::spawn(move || helper::serve(&listener, log, helper::own_user()));
    measure("helper, in memory", &mut helper::Remote::connect(&socket, Duration::from_secs(5))?)
}
