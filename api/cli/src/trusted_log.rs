//! `quorate trusted-log`: a replica's trusted log in a process of its own, under another user where that is wanted.

use crate::role::{Common, hinted, start_log};
use clap::Args;
use quorate::{
    exit::{Code, Failure},
    terminal::note,
};
use quorate_jobtracker::{Helper, HelperError, HelperOptions, OpenError, own_user};
use quorate_protocol::ids::ReplicaId;
use std::{io::ErrorKind, path::PathBuf};

/// Holds the trusted log of one replica in a process of its own.
///
/// Run it as a user of its own, with a folder and a key file that nobody else may read. Then whoever breaks into the
/// replica can neither read the trusted log's key nor put an older state back; whoever owns the machine still can. The key
/// is the one that the configuration has as `log` of the replica, or as its `key` when there is no `log`.
///
/// Start this first, and then `quorate jobtracker --trusted-log SOCKET`. It may be stopped and started again at any
/// time; the replica ends when it needs its log and nobody answers.
#[derive(Args, Debug)]
pub(crate) struct TrustedLog {
    #[command(flatten)]
    common: Common,
    /// Whose trusted log it is: the number of a replica of the configuration.
    #[arg(long, value_name = "NUMBER")]
    id: ReplicaId,
    /// Where the replica finds it. The socket is made, and taken away at the end.
    #[arg(long, value_name = "SOCKET")]
    socket: PathBuf,
    /// The number of the user that the replica runs as; everybody else is turned away [default: the user who starts this]
    #[arg(long, value_name = "UID")]
    allow_user: Option<u32>,
}

pub(crate) async fn run(options: TrustedLog) -> Result<(), Failure> {
    start_log();
    let (cluster, key) = options.common.load()?;
    let TrustedLog { common, id, socket, allow_user } = options;
    let user = allow_user.unwrap_or_else(own_user);
    let helper = HelperOptions { cluster, replica: id, key, directory: common.dir.clone(), socket, user };
    let shown = helper.socket.display().to_string();
    let mut helper = Helper::start(helper).map_err(failure)?;
    note(&format!("the trusted log of {id} serves user {user} on {shown}"));
    let ended = tokio::select! {
        stopped = common.until_stopped() => stopped,
        error = helper.failed() => Err(failure(error)),
    };
    helper.stop().map_err(failure)?;
    ended
}

/// Why it does not start or go on, with what can be done about it.
fn failure(error: HelperError) -> Failure {
    let (code, hint) = match &error {
        HelperError::Cluster(_) => (Code::ClusterConfiguration, None),
        HelperError::NotAMember(_) => (Code::NotAMember, Some("replicas are numbered from 0; see --id and --config")),
        HelperError::Tpm(_) => {
            (Code::TrustedLogChoice, Some("start the replica with --tpm; it needs no process beside it"))
        }
        HelperError::WrongKey(_) => {
            (Code::NotAMember, Some("it is the one that stands there as `log`, or as `key` when there is no `log`"))
        }
        HelperError::State(OpenError::InUse(_)) => {
            (Code::ReplicaTrouble, Some("this replica's trusted log runs already"))
        }
        HelperError::State(OpenError::Foreign(_)) => {
            (Code::ReplicaTrouble, Some("each trusted log needs its own --dir"))
        }
        HelperError::Socket { source, .. } if source.kind() == ErrorKind::AddrInUse => {
            (Code::CannotListen, Some("is another process there already? choose another --socket, or stop it"))
        }
        HelperError::Socket { source, .. } if source.kind() == ErrorKind::NotFound => {
            (Code::CannotListen, Some("the folder of --socket must be there"))
        }
        HelperError::Socket { .. } => (Code::CannotListen, None),
        HelperError::Directory { .. } | HelperError::State(_) => (Code::ReplicaTrouble, None),
        HelperError::Thread(_) => (Code::System, None),
    };
    hinted(Failure::of(code, &error), hint.map(str::to_owned))
}
