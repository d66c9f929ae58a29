//! One replica in a process of its own: what [`crate::cluster`] starts.

use quorate_jobtracker::{Founding, LEASE_DEFAULT, LogPlace, Options, OrderError, Replica, StartError};
use quorate_protocol::{cluster::Cluster, ids::ReplicaId, sign::SecretKey};
use std::{fs, io, path::PathBuf, sync::Arc};
use tokio::{net::TcpListener, sync::oneshot};

#[derive(clap::Args)]
pub(crate) struct ReplicaOptions {
    /// Which replica of the configuration this is
    #[arg(long, value_name = "NUMBER")]
    id: ReplicaId,
    /// The cluster's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file with the replica's secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the replica keeps its state
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Where its TPM is, when its trusted log is in one
    #[cfg(feature = "tpm")]
    #[arg(long, value_name = "TCTI", requires = "founding")]
    tpm: Option<quorate_tpm::Tcti>,
    /// How the cluster began
    #[cfg(feature = "tpm")]
    #[arg(long, value_name = "FILE")]
    founding: Option<PathBuf>,
}

/// Why a replica does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("the cluster's configuration cannot be read")]
    Configuration(#[from] toml::de::Error),
    #[cfg(feature = "tpm")]
    #[error(transparent)]
    Founding(#[from] quorate_jobtracker::FoundingError),
    #[error("the file of the key holds none")]
    NoKey,
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the replica ended")]
    Ended(#[from] OrderError),
}

/// Runs a replica until standard input ends, which it does when the process that started this one is gone.
#[tokio::main]
pub(crate) async fn run(options: ReplicaOptions) -> Result<(), Failure> {
    let cluster: Cluster = toml::from_str(&fs::read_to_string(&options.config)?)?;
    let key = SecretKey::from_hex(&fs::read_to_string(&options.key)?).ok_or(Failure::NoKey)?;
    let member = cluster.replica(options.id).ok_or(StartError::NotAMember(options.id))?;
    let listener = TcpListener::bind(&member.address).await?;
    let (trusted_log, founding) = trusted_log(&options, &cluster)?;
    let options = Options {
        cluster: Arc::new(cluster),
        replica: options.id,
        key,
        directory: options.dir,
        trusted_log,
        founding,
        lease: LEASE_DEFAULT,
        record: false,
        liar: None,
    };
    let mut replica = Replica::start(options, listener).await?;
    tokio::select! {
        () = stdin_ends() => {
            replica.stop().await;
            Ok(())
        }
        ended = replica.ended() => Ok(ended?),
    }
}

#[cfg(feature = "tpm")]
fn trusted_log(options: &ReplicaOptions, cluster: &Cluster) -> Result<(LogPlace, Option<Founding>), Failure> {
    let (Some(tcti), Some(founding)) = (options.tpm.clone(), &options.founding) else {
        return Ok((LogPlace::Here, None));
    };
    let founding = Founding::read(&fs::read_to_string(founding)?, cluster)?;
    let place = quorate_jobtracker::TpmPlace { tcti, allow_software_tpm: true, enrolment: None };
    Ok((LogPlace::Tpm(Box::new(place)), Some(founding)))
}

#[cfg(not(feature = "tpm"))]
fn trusted_log(_: &ReplicaOptions, _: &Cluster) -> Result<(LogPlace, Option<Founding>), Failure> {
    Ok((LogPlace::Here, None))
}

/// Waits on a thread of its own: the runtime would wait for a read that it had begun.
async fn stdin_ends() {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        // An error is an end, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // Nobody may be waiting any more.
        let _ = ended.send(());
    });
    // An error says that the thread is gone, and standard input with it.
    let _ = end.await;
}
