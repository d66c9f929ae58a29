//! `quorate verify`, `quorate job certificate` and `quorate cluster keys`: what a job's output is, shown to whoever was not there.
//!
//! Checking needs two files and no network: the certificate, which anybody may have made, and the cluster's public keys, which
//! are believed. What is read is bounded, and text of the certificate reaches a terminal without its control characters.

mod compare;

use clap::Args;
pub(crate) use compare::compare_output;
use compare::{compare_input, compare_program};
use quorate::{
    amounts::{count, show_bytes},
    arrow::temporal_conversions::timestamp_ms_to_datetime,
    configuration,
    connection::{CLUSTER_FILE, Connection, default_folder},
    exit::{Code, Failure},
    report, succeeded,
    terminal::print,
};
use quorate_jobtracker::certificate::{CheckError, Endorsed, check};
use quorate_protocol::{
    certificate::{Certificate, Completion},
    cluster::Cluster,
    file::Path as ClusterPath,
    ids::{JobId, OrderedTime},
    job::Program,
    limits::CERTIFICATE_BYTES_MAX,
};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The longest file of public keys in bytes: some 100,000 trackers.
const KEYS_BYTES_MAX: usize = 16 << 20;
/// Text of the certificate that is shown, in characters.
const SHOWN_MAX: usize = 120;

/// Checks a job's certificate, and on request the output, with nothing but the cluster's public keys.
///
/// No cluster is asked. A certificate that holds says: f+1 trackers in distinct failure domains signed that this output
/// came of this program on this input, and f+1 replicas of the job tracker signed that the job ended so. It does not say that the
/// program is right.
///
/// Exit codes: 0 it holds, and all that was compared is what it certifies; 6 it does not hold, or something else was compared;
/// 3 a file cannot be read.
#[derive(Args)]
pub(crate) struct Verify {
    /// The certificate, as `quorate job certificate` wrote it.
    #[arg(value_name = "CERTIFICATE")]
    certificate: PathBuf,
    /// The cluster's public keys, as `quorate cluster keys` printed them [default: those of the cluster's folder]
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Compare every byte of the output: the folder that `quorate fs get` made of it, or some of its part files
    #[arg(long, value_name = "PATH", num_args = 1..)]
    output: Vec<PathBuf>,
    /// Compare every byte of the input: a file or folder for each input of the job, in the job's order
    #[arg(long, value_name = "PATH", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Compare the program's file
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What is wrong with what was checked.
pub(crate) fn refused(message: String) -> Failure {
    Failure::new(Code::CertificateRefused, message)
}

pub(crate) fn run(options: &Verify, folder: Option<&Path>) -> Result<(), Failure> {
    let cluster = read_keys(options.keys.as_deref(), folder)?;
    let shown = options.certificate.display();
    let bytes = read_bounded(&options.certificate, CERTIFICATE_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| refused(format!("{shown} is longer than any certificate")))?;
    let no = |error: CheckError| doubtful(&options.certificate, &error);
    let certificate = Certificate::from_bytes(&bytes).map_err(|error| no(error.into()))?;
    let endorsed = check(&certificate, &cluster).map_err(no)?;
    print(&format!("{shown} holds.\n{}", told(&certificate.completion, &cluster, &endorsed)))?;
    let completion = &certificate.completion;
    if let Some(program) = &options.program {
        print(&compare_program(completion, program)?)?;
    }
    if !options.input.is_empty() {
        print(&compare_input(completion, &options.input)?)?;
    }
    if !options.output.is_empty() {
        print(&compare_output(completion, &options.output)?)?;
    }
    Ok(())
}

/// Checks a certificate that a cluster just gave.
fn checked(certificate: &Certificate, cluster: &Cluster, job: JobId) -> Result<Vec<Endorsed>, Failure> {
    check(certificate, cluster).map_err(|error| refused(format!("the certificate of {job} does not hold: {error}")))
}

/// The same, and says what is in it.
pub(crate) fn told_if_it_holds(certificate: &Certificate, cluster: &Cluster, job: JobId) -> Result<String, Failure> {
    Ok(told(&certificate.completion, cluster, &checked(certificate, cluster, job)?))
}

/// Why a certificate is not believed.
fn doubtful(certificate: &Path, error: &CheckError) -> Failure {
    let shown = certificate.display();
    if matches!(error, CheckError::Log { source, .. } if source.is_not_built()) {
        return Failure::new(Code::NotBuilt, format!("{shown} cannot be checked: {error}"));
    }
    let failure = refused(format!("{shown} does not hold: {}", printable(&error.to_string())));
    match error {
        CheckError::Certificate(quorate_protocol::certificate::CertificateError::Cluster { .. }) => {
            failure.hint("give the public keys of the cluster that ran the job with --keys")
        }
        CheckError::Certificate(_)
        | CheckError::Unreadable { .. }
        | CheckError::Foreign(_)
        | CheckError::Log { .. } => failure,
    }
}

/// Reads a file that a stranger may have made. None when it is longer than it may be.
fn read_bounded(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, Failure> {
    let unreadable = |error: io::Error| Failure::io("cannot read", path, &error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

fn read_keys(keys: Option<&Path>, folder: Option<&Path>) -> Result<Cluster, Failure> {
    let in_folder = || folder.map_or_else(default_folder, Path::to_owned).join(CLUSTER_FILE);
    let path = keys.map_or_else(in_folder, Path::to_owned);
    let bytes = read_bounded(&path, KEYS_BYTES_MAX)
        .map_err(|failure| if keys.is_some() { failure } else { failure.hint("name the file with --keys") })?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| Failure::new(Code::NoPublicKeys, format!("{} is no text", path.display())))?;
    configuration::parse(&path, &text, Code::NoPublicKeys)
}

/// The cluster's public keys as a file.
pub(crate) fn keys(cluster: &Cluster) -> Result<String, Failure> {
    let mut cluster = cluster.clone();
    // Where the replicas are is nobody's business, and no part of the cluster's identity.
    cluster.replicas.iter_mut().for_each(|replica| replica.address.clear());
    cluster.allow_liars = false;
    let text = toml::to_string(&cluster).map_err(|error| Failure::of(Code::System, &error))?;
    Ok(format!(
        "# The public keys of the cluster {}.\n# `quorate verify CERTIFICATE --keys FILE` believes what is here, and needs nothing else.\n\n{text}",
        cluster.id()
    ))
}

/// Writes a job's certificate.
pub(crate) async fn write(connection: &Connection, job: JobId, output: Option<PathBuf>) -> Result<(), Failure> {
    let path = output.unwrap_or_else(|| PathBuf::from(format!("{job}.certificate")));
    let view = connection.client.job(job).await?;
    if !view.summary.state.is_ended() {
        let message = format!("{job} has not ended: it is {}", report::state(&view.summary.state));
        return Err(
            Failure::new(Code::JobNotEnded, message).hint(format!("`quorate job wait {job}` waits for its end"))
        );
    }
    succeeded(&view)?;
    let certificate = connection.client.certificate(job).await?;
    let endorsed = checked(&certificate, &connection.cluster, job)?;
    let bytes = certificate.to_bytes();
    save(&path, &bytes)?;
    print(&format!(
        "{}: {}, the word of {} for the output and of {} for the job\n",
        path.display(),
        show_bytes(bytes.len() as u64),
        count(u64::from(view.summary.f) + 1, "tracker"),
        count(endorsed.len() as u64, "replica"),
    ))
}

/// Writes all of a new file, or nothing.
fn save(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io("cannot write", path, &error);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| failed(error.error)).map(drop)
}

/// What a certificate says, for people.
fn told(completion: &Completion, cluster: &Cluster, endorsed: &[Endorsed]) -> String {
    let specification = &completion.specification;
    let (program, f) = (program(&specification.program), specification.f);
    let votes = match f {
        0 => "f = 0: one tracker's word for each part is all there is".to_owned(),
        f => format!("f = {f}: {} trackers in distinct failure domains signed each part", f + 1),
    };
    let alone = if cluster.f == 0 { "; one replica's word is all there is" } else { "" };
    let replica = |endorsed: &Endorsed| {
        let Endorsed { replica, log, epoch, position, executed } = endorsed;
        format!("{replica} at {executed} ({log}, epoch {epoch}, position {position})")
    };
    let replicas: Vec<String> = endorsed.iter().map(replica).collect();
    let bytes: u64 = completion.parts.iter().map(|part| part.manifest.length()).sum();
    let inputs = specification.inputs.iter().map(|path| plain(path.as_str())).collect::<Vec<_>>().join(", ");
    let rows = [
        ("cluster", format!("{} {}", plain(&cluster.name), completion.cluster)),
        (
            "job",
            format!(
                "{} {}, {} to {}",
                completion.job,
                plain(&specification.name),
                when(completion.submitted),
                when(completion.ended)
            ),
        ),
        ("program", program),
        ("arguments", plain(&specification.arguments)),
        ("input", format!("{inputs}: {}", count(completion.inputs.len() as u64, "file"))),
        (
            "output",
            format!(
                "{}: {}, {}",
                plain(specification.output.as_str()),
                count(completion.parts.len() as u64, "part"),
                show_bytes(bytes)
            ),
        ),
        ("votes", votes),
        ("replicas", format!("signed by {}{alone}", replicas.join(" and "))),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, text)| vec![format!("  {name}"), text]).collect();
    format!("{}It does not show that the program is right.\n", report::table(&rows))
}

fn program(program: &Program) -> String {
    match program {
        Program::Binary { digest, target, .. } => format!("{digest} ({})", plain(target)),
        Program::Embedded { digest } => format!("{digest} (in the trackers' own process)"),
    }
}

/// A stranger's text, as a terminal may show it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The same of the beginning of a text that may be long.
pub(crate) fn plain(text: &str) -> String {
    let shown: String = printable(text).chars().take(SHOWN_MAX).collect();
    if text.chars().nth(SHOWN_MAX).is_some() { shown + "…" } else { shown }
}

fn when(time: OrderedTime) -> String {
    let ms = i64::try_from(time.0).ok();
    let date = ms.and_then(timestamp_ms_to_datetime);
    date.map_or_else(|| format!("{} ms", time.0), |date| date.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A file's place below a folder of the cluster; empty for the folder itself.
pub(crate) fn below<'a>(path: &'a ClusterPath, folder: &ClusterPath) -> Option<&'a str> {
    let is_within = path.is_within(folder);
    is_within.then(|| path.as_str().strip_prefix(folder.as_str()).unwrap_or(path.as_str()).trim_start_matches('/'))
}
