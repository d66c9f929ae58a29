//! `quorate demo`: what Quorate does, shown on a cluster of processes that ends with it.
//!
//! Everything is the real thing: the commands that are named are what this does by itself, and every figure is read from the
//! cluster. Whatever happens, also Ctrl-C, all processes and files are gone at the end.

pub(crate) mod words;

use crate::{
    cluster::{self, Up},
    members::{Members, Place},
    role::Interruption,
    verify::{compare_output, keys, refused, told_if_it_holds},
};
use clap::Args;
use quorate::{
    amounts::show_bytes,
    connection::{Connection, cluster_path},
    exit::{Code, Failure},
    explain::explain,
    files::{download, upload},
    succeeded,
    terminal::{print, visible},
    wait_with_progress,
};
use quorate_protocol::{
    digest::Digest,
    ids::{JobId, ReplicaId},
    query::JobView,
};
use std::{
    collections::BTreeMap,
    fs,
    io::{IsTerminal, stdin, stdout},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// Who lies, and how.
const LIE: &str = "2=corrupt-map";
/// How long anything may take before the demonstration gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shows in two minutes what Quorate does: a job, a liar, a killed primary, a certificate.
///
/// A cluster of processes is started on this machine, and nothing is left of it afterwards. On a terminal each step waits for
/// the Enter key.
#[derive(Args)]
pub(crate) struct Demo {
    /// Do not wait between the steps
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(options: Demo) -> Result<(), Failure> {
    let mut interruption = Interruption::listen()?;
    let folder = tempfile::Builder::new().prefix("quorate-demo-").tempdir();
    let folder = folder.map_err(|error| Failure::io("cannot make a folder in", std::env::temp_dir(), &error))?;
    let place = Place::choose(Some(&folder.path().join("cluster")), None)?;
    let waits = !options.yes && stdin().is_terminal() && stdout().is_terminal();
    let mut tour = Tour { waits, folder: folder.path().to_owned(), members: Members::default() };
    let outcome = tokio::select! {
        outcome = tour.lead(&place) => outcome,
        () = interruption.came() => Err(Failure::new(Code::Interrupted, "interrupted")),
    };
    tour.members.stop().await;
    outcome
}

/// Tells something about what is seen.
fn say(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

struct Tour {
    waits: bool,
    folder: PathBuf,
    members: Members,
}

impl Tour {
    async fn lead(&mut self, place: &Place) -> Result<(), Failure> {
        let connection = self.start(place).await?;
        let unknown = || Failure::new(Code::Unreachable, "no replica says who the primary is");
        let leads = primary(&connection).await.ok_or_else(unknown)?;
        let job = self.submit(&connection).await?;
        self.kill_the_primary(&connection, job, leads).await?;
        let view = wait_with_progress(&connection, job).await?;
        succeeded(&view)?;
        self.show_the_vote(&connection, &view).await?;
        let counts = self.check_the_answer(&connection).await?;
        self.certify(&connection, job, &counts).await?;
        say(
            "\nThat was all; the cluster and its files are going away. Next: `quorate cluster up`, and the guide in api/docs.",
        )
    }

    /// Begins a step, when the reader is ready for it.
    async fn step(&self, title: &str, text: &str) -> Result<(), Failure> {
        if self.waits {
            print("\n[Enter to go on] ")?;
            let (pressed, press) = tokio::sync::oneshot::channel();
            // On a thread of its own: the runtime would wait for a read that it had begun.
            std::thread::spawn(move || pressed.send(stdin().read_line(&mut String::new()).is_ok()));
            let _ = press.await;
        }
        say(&format!("\n== {title}\n{text}"))
    }

    async fn start(&mut self, place: &Place) -> Result<Connection, Failure> {
        say("== 1 of 6: a cluster with a liar\n\
             Three replicas of the job tracker and five task trackers start on this machine, each a process of its own. Each tracker\n\
             stands for a machine that fails or lies by itself. tracker-2 lies: it makes wrong map output, and votes for it.\n\
             Nobody has told the others.")?;
        let connection = cluster::start(place, &Up::with_a_liar(LIE), &mut self.members).await?;
        say(&format!("It is up. {}.", connection.cluster.assumption()))?;
        say(&format!(
            "Each replica shows a page; keep one open beside this window:\n{}",
            cluster::pages(&connection.cluster).trim_end()
        ))?;
        Ok(connection)
    }

    async fn submit(&self, connection: &Connection) -> Result<JobId, Failure> {
        let text = words::text();
        self.step(
            "2 of 6: a job",
            &format!(
                "{} of text go into the cluster's file system, cut into chunks that are named by their digest; so does the program,\n\
                 which is this very file. Then a word count is submitted with f = 1: every task runs on two trackers, on a third one when\n\
                 they disagree, and nothing counts that two did not sign alike. While it runs, the primary will be killed.",
                show_bytes(text.len() as u64)
            ),
        )
        .await?;
        let local = self.folder.join("text");
        fs::write(&local, &text).map_err(|error| Failure::io("cannot write", &local, &error))?;
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Code::System, "cannot find this program's file").caused_by(&error))?;
        let bytes = fs::read(&program).map_err(|error| Failure::io("cannot read", &program, &error))?;
        let (input, stored, output) = (cluster_path("/text")?, cluster_path("/program")?, cluster_path("/counts")?);
        upload(connection, &[(local, input.clone()), (program, stored.clone())], 2).await?;
        let file = connection.client.file(&stored).await?;
        let job = connection.client.submit_job(words::job(Digest::of(&bytes), file, &input, &output)).await?;
        say(&format!("It is {job}."))?;
        Ok(job)
    }

    /// Waits for nobody: the job goes on meanwhile, and would be over.
    async fn kill_the_primary(&self, connection: &Connection, job: JobId, before: ReplicaId) -> Result<(), Failure> {
        let begun = async || connection.client.job(job).await.is_ok_and(|view| view.summary.maps.0 > 0);
        until("the job gets on", begun).await?;
        let killed = Instant::now();
        self.members.kill(&before.to_string());
        say(&format!(
            "\n== 3 of 6: the primary is killed\n\
             {before}, which ordered all commands, got `kill -9` in the middle of the job. The other two notice that commands wait,\n\
             agree on who comes next, and go on where the history stood. No command is lost, and none is done twice."
        ))?;
        let replaced = async || primary(connection).await.is_some_and(|primary| primary != before);
        until("another replica leads", replaced).await?;
        let waited = killed.elapsed().as_secs_f32();
        let leads = primary(connection).await.map_or("another".to_owned(), |primary| primary.to_string());
        say(&format!("{leads} leads now, {waited:.1} s later; {before} stays dead."))
    }

    async fn show_the_vote(&self, connection: &Connection, view: &JobView) -> Result<(), Failure> {
        self.step(
            "4 of 6: the vote",
            "This is what `quorate explain` says of one of the tasks whose votes differ. Reducers had begun with the first copy that was\n\
             there: what turned out wrong was fetched again, and only that was done again. Where the copies differ is found by comparing\n\
             digests.",
        )
        .await?;
        let first = view.disputes.first().map(|dispute| dispute.task);
        print(&format!("\n{}", visible(&explain(connection, view.summary.job, first).await?.to_string())))
    }

    async fn check_the_answer(&self, connection: &Connection) -> Result<PathBuf, Failure> {
        self.step("5 of 6: the answer", "The output is fetched, every byte checked against its digest, and compared with a count of the same text by five\nlines of code in this process.").await?;
        let counts = self.folder.join("counts");
        let parts = download(connection, &cluster_path("/counts")?, &counts).await?;
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        for part in parts {
            let text = fs::read_to_string(&part).map_err(|error| Failure::io("cannot read", &part, &error))?;
            let pairs = text.lines().filter_map(|line| line.rsplit_once('\t'));
            counted.extend(pairs.filter_map(|(word, count)| Some((word.to_owned(), count.parse().ok()?))));
        }
        let expected = words::counted_simply();
        let is_right = counted.len() == expected.len()
            && counted.iter().all(|(word, count)| expected.get(word.as_str()) == Some(count));
        if !is_right {
            return Err(refused("the counts are wrong, which must never be: please report this".to_owned()));
        }
        let words: u64 = counted.values().sum();
        say(&format!(
            "They are the same: {words} words, {} different ones. The lie is not in the answer.",
            counted.len()
        ))?;
        Ok(counts)
    }

    async fn certify(&self, connection: &Connection, job: JobId, counts: &Path) -> Result<(), Failure> {
        self.step(
            "6 of 6: the certificate",
            "It has what two trackers signed for each part of the output, and what two replicas signed for the job. `quorate verify` checks\n\
             it, and the output, on any machine, when this cluster is long gone: all it needs is the cluster's public keys.",
        )
        .await?;
        let certificate = connection.client.certificate(job).await?;
        let told = told_if_it_holds(&certificate, &connection.cluster, job)?;
        let (bytes, public) = (certificate.to_bytes().len() as u64, keys(&connection.cluster)?.len() as u64);
        say(&format!("The certificate has {}, the keys {}. It holds:\n{told}", show_bytes(bytes), show_bytes(public)))?;
        print(&compare_output(&certificate.completion, &[counts.to_owned()])?)?;
        let changed = change_a_byte(&counts.join("part-r-00001"))?;
        say(&format!("Now byte {changed} of counts/part-r-00001 is changed, and it is checked again:"))?;
        match compare_output(&certificate.completion, &[counts.to_owned()]) {
            Err(change) if change.code == Code::CertificateRefused => {
                say(&change.message.replace(&*self.folder.to_string_lossy(), "…"))
            }
            Err(other) => Err(other),
            Ok(_) => Err(refused("the change was not seen, which must never be: please report this".to_owned())),
        }
    }
}

/// Changes the byte in the middle of a file, and says which that is.
fn change_a_byte(path: &Path) -> Result<usize, Failure> {
    let mut bytes = fs::read(path).map_err(|error| Failure::io("cannot read", path, &error))?;
    let middle = bytes.len() / 2;
    bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
    fs::write(path, bytes).map_err(|error| Failure::io("cannot write", path, &error))?;
    Ok(middle)
}

/// Who leads the latest view that any replica says it is in.
async fn primary(connection: &Connection) -> Option<ReplicaId> {
    let views = connection.client.replicas().await.into_iter().filter_map(|(_, view)| view.ok());
    views.filter(|view| view.changing_to.is_none()).max_by_key(|view| view.view).map(|view| view.primary)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        if Instant::now() > deadline {
            return Err(Failure::new(
                Code::MemberEnded,
                format!("waited in vain for {} s until {what}", PATIENCE.as_secs()),
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
