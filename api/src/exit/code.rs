//! Every error that ends a command, by its stable code: the one table that the messages, `quorate errors` and the page
//! *troubleshooting* are made from.
//!
//! What must hold: a code keeps its number and its meaning for ever; one that is no longer used is not given to another
//! error. The hundreds of a number say the exit code, but for the nine hundreds, which end with 130.

use super::Exit;
use quorate_protocol::{query::JobFailure, vote::FailureKind};
use std::{fmt, str::FromStr};

macro_rules! codes {
    ($($name:ident = $number:literal, $title:literal, $meaning:literal, $remedy:literal;)*) => {
        /// What ended a command. Its number, shown as `Q0301`, is part of the interface.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $title] $name = $number,)*
        }

        impl Code {
            /// All codes, by number.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// A few words for a list.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }

            /// What has happened, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning,)* }
            }

            /// What to do about it. A message says it too, unless its own hint fits better.
            pub const fn remedy(self) -> &'static str {
                match self { $(Code::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    ProgramError = 101, "the program returned an error",
        "The job's mapper or reducer returned an error for the same record on f + 1 trackers, so it is the program's own.",
        "records are counted from 0 in the task's input; on a running cluster `quorate job logs JOB` shows what the program \
         printed";
    ProgramPanic = 102, "the program panicked",
        "The job's mapper or reducer panicked at the same record on f + 1 trackers.",
        "records are counted from 0 in the task's input; on a running cluster `quorate job logs JOB` shows what the program \
         printed";
    BadInput = 103, "the input is not what the job's format says",
        "A file of the input is damaged or of another format: a truncated Parquet or gzip file, a last record that is too \
         short.",
        "check the file that the message names, or leave it out of --input";
    ProgramDied = 104, "the program's process died",
        "The process that ran the job's code called `exit`, ran out of its memory or was killed, on f + 1 trackers.",
        "`quorate job logs JOB` has its last words; a larger --memory helps where it ran out";
    Undecidable = 105, "a task is undecidable",
        "The attempts of a task gave different outputs and no f + 1 of them agree. Most often the program is nondeterministic \
         (clock, random numbers, the order of a hash map); otherwise more than f trackers lie about one task.",
        "look at the first differing record, which `quorate explain JOB` shows, and at the guide's chapter on determinism";
    NotRunnable = 106, "no tracker could run a task",
        "Each tracker that was asked declined, for the reason that the message gives: no room on its disk, a program for \
         another machine, an input that no copy could be read of.",
        "`quorate cluster status` shows which trackers are there; mend what the message names and submit the job again";
    JobKilled = 107, "the job was killed",
        "Somebody with a client key of the cluster ended the job with `quorate job kill`. It leaves no output.",
        "submit it again if that was a mistake";
    JobNotEnded = 108, "the job has not ended",
        "A result was asked for before there is one.",
        "wait for its end with `quorate job wait JOB`";
    ClientCode = 109, "the program's own code failed on this machine",
        "What a job program runs outside of tasks failed: its driver, a tool, its summary, or the making of its job.",
        "the message is the program's; a panic's place stands above it";
    Nondeterministic = 110, "the program is nondeterministic",
        "A tracker ran an attempt of the job again, and the program gave another output. No tracker is blamed for that.",
        "`PROGRAM check-determinism` names the usual suspect; the guide's chapter on determinism lists what user code must not do";

    CommandLine = 201, "the command line makes no sense",
        "An option or subcommand is unknown or missing, or a value cannot be read.",
        "`--help` after the command lists what it takes";
    BadValue = 202, "a value is out of bounds",
        "An option was read, and its value cannot be used.",
        "`--help` tells what the option takes";
    TooFewTrackers = 203, "too few trackers for f",
        "f liars need 2f + 1 trackers in distinct failure domains, so that f + 1 honest ones are left to agree.",
        "use more --trackers, or a smaller --f";
    NoSuchLiar = 204, "there is no such liar",
        "`--liar` names a tracker or replica that the cluster does not have, or a lie that nobody tells.",
        "--help lists the kinds of liars";
    ReplicaNumber = 205, "so many replicas make no sense",
        "f of 2f + 1 job-tracker replicas may fail, or of 3f + 1 without trusted logs; a number in between adds cost and no \
         safety.",
        "take the next smaller or larger number that the message names";
    BadClusterPath = 206, "this is no path of the cluster's file system",
        "Paths in the cluster are absolute, are UTF-8, and have no `.`, `..`, empty part or control character.",
        "write it as in /books/one.txt";
    JobArguments = 207, "the job does not take these arguments",
        "The program refused its own arguments while it made its job. Nothing was started.",
        "`--help` lists the job's arguments";
    NoInput = 208, "no input",
        "The job was given nothing to read.",
        "name files or folders with --input";
    Settings = 209, "the settings cannot be read",
        "`quorate.toml` is no TOML, or a value in it or in an environment variable is not one that its option takes.",
        "`quorate config example` prints a file with every setting explained";
    UnknownKey = 210, "there is no such setting",
        "`quorate.toml` has a key that no version of this program knows. It is refused, since a misspelled setting would \
         otherwise do nothing without a word.",
        "`quorate config example` lists all settings";
    ClusterConfiguration = 211, "the cluster's configuration makes no sense",
        "The file that describes the cluster's members is no TOML, has an unknown key, or contradicts itself.",
        "the page *configuration* describes the file; every member of a cluster has the same one";
    BadKeyFile = 212, "this file holds no key",
        "A member's or client's secret key is a file of 64 hexadecimal digits.",
        "give the file that was made for this member";
    NotAMember = 213, "this is not a member of the cluster",
        "The cluster's configuration has no member of this number, or another key for it.",
        "compare --id and --key with the configuration";
    LiarsNotAllowed = 214, "liars are not allowed in this cluster",
        "A member was told to lie, which only clusters for tests and demonstrations allow.",
        "set allow_liars = true in the configuration of a test cluster";
    TrustedLogChoice = 215, "the trusted log is not the configured one",
        "The options say another kind of trusted log, or another one, than the cluster's configuration has for this replica.",
        "compare --trusted-log, --tpm and --founding with the configuration";
    TpmDocument = 216, "this file is not what `quorate tpm` wrote",
        "An enrolment, challenge, answer or founding is damaged, or belongs to another cluster or TPM.",
        "make it again with the command that wrote it";
    InvalidRequest = 217, "the job tracker finds the request senseless",
        "A value in the request is out of the job tracker's bounds.",
        "change the value that the message names";
    NotBuilt = 218, "this program was built without TPMs",
        "The cluster's replicas have their trusted logs in TPMs, and this build cannot check what a TPM says.",
        "build it with `cargo build --release -p quorate-cli --features tpm`";

    NotFound = 301, "a file or folder is not there",
        "A path of this machine names nothing.",
        "check the spelling; a relative path starts at the current folder";
    PermissionDenied = 302, "this user may not read or write it",
        "The operating system denies access to a path of this machine.",
        "look at the owner and mode with `ls -ld`, or choose another path";
    PathTrouble = 303, "a path cannot be read or written",
        "The operating system reports another error for a path of this machine; the cause names it.",
        "look at what is there with `ls -ld`, or choose another path";
    Exists = 304, "the output exists already",
        "What is to be made is there. Nothing is ever overwritten, here or in the cluster.",
        "choose another name, or remove it first";
    NoFolder = 305, "the folder that it is to be made in is not there",
        "The parent of the output does not exist.",
        "check the spelling, or make the folder first";
    NoFiles = 306, "there is nothing to read",
        "An input folder has no files. Files whose names begin with a dot are left out.",
        "look at what is in it with `ls -A`, or `quorate fs ls` for a folder of the cluster";
    BadName = 307, "a file's name cannot be used in the cluster",
        "Names in the cluster are UTF-8 without control characters.",
        "rename the file";
    NotInCluster = 308, "the cluster has no such file or folder",
        "A path of the cluster's file system names nothing.",
        "`quorate fs ls` shows what is there";
    IsFolder = 309, "this is a folder",
        "A folder stands where a file was expected.",
        "name a file in it, or use the option for folders";
    NoSuchJob = 310, "the cluster has no such job",
        "No job of this number was submitted, it has no such task, or it was forgotten: the job tracker keeps the newest jobs \
         only.",
        "`quorate job list` shows the jobs";
    NoLog = 311, "there is no such log",
        "No live tracker has what the user's code printed in this attempt.",
        "trackers keep the logs of the last jobs that they ran as child processes";
    OtherCluster = 312, "another cluster is in this folder",
        "The folder given with --dir holds a cluster of other members, or no cluster's configuration.",
        "give the same options as before, or another --dir";
    FileTooLong = 313, "the file is too long",
        "A file has more chunks than the job tracker takes.",
        "cut it into several files";
    NoSuchTracker = 314, "the cluster has no such tracker",
        "No tracker of this number is in the cluster's configuration.",
        "`quorate tracker list` lists the trackers";
    NoPublicKeys = 315, "this file has no cluster's public keys",
        "What should hold a cluster's public keys is something else, or was changed.",
        "`quorate cluster keys` prints them, on a machine that has a connection to the cluster";

    NoCluster = 401, "no cluster is described here",
        "The folder where clients look for a cluster has no description of one.",
        "start one with `quorate cluster up`, or name its folder with --cluster";
    BadClusterFolder = 402, "the cluster's folder makes no sense",
        "The description or key that `quorate cluster up` wrote cannot be read, or is damaged.",
        "start the cluster again, which writes them anew";
    Unreachable = 403, "the job tracker does not answer",
        "No replica of the job tracker answered in time. More than f of them may be down, or the network is.",
        "start a cluster with `quorate cluster up`; if it runs already, name its folder with --cluster";
    Rejected = 404, "the job tracker does not take this",
        "A replica refuses what this client sends: it does not know its key, or speaks another version.",
        "is this the folder of the cluster that runs now?";
    Untrustworthy = 405, "an answer cannot be trusted",
        "A replica signed an answer that it may not give, or none that can be checked: it lies, or is of another cluster.",
        "`quorate cluster status` names replicas that were caught; look at that machine";
    Disagreement = 406, "the replicas disagree",
        "No f + 1 replicas gave the same answer, again and again: more than f of them are faulty.",
        "`quorate cluster status` shows how each stands; stop trusting the cluster until that is explained";
    Forked = 407, "the job tracker has forked",
        "Replicas signed two histories that exclude each other, so more than f of them lie or a trusted log is broken.",
        "stop using the cluster, keep the proof that is shown, and look at the replicas that it names";
    OtherVersion = 408, "another version answers",
        "The answer is of a kind that this program does not expect: it and the job tracker differ in version.",
        "use the client and members of one version";
    TooLong = 409, "the request is too long",
        "One command to the job tracker is limited in length.",
        "do it in several steps, as with fewer files at once";
    TooFewDomains = 410, "too few failure domains",
        "The job, or the copies of a file, need more live failure domains than there are.",
        "use a smaller --f or --copies, or start more trackers";
    WrongTarget = 411, "no tracker runs this program",
        "The program was built for another kind of machine than the trackers are.",
        "build the program for the trackers' machines";
    Full = 412, "the job tracker is full",
        "A bound on what the job tracker keeps is reached: jobs, files, or requests that wait.",
        "wait for jobs to end, or remove files that nobody needs";
    NotAllowed = 413, "not allowed",
        "The cluster's configuration does not let this client do it.",
        "use a client key that the configuration lists";
    Stale = 414, "an older command",
        "A later command of the same client was executed already, and this one's answer is gone.",
        "ask for the state with `quorate job list` or `quorate fs ls`, and run the command again if it is needed";
    AlreadyRunning = 415, "a cluster runs already",
        "The folder in which clients would look for this cluster describes another one that answers.",
        "stop it with Ctrl-C where it runs, or give this one a folder of its own with --cluster";
    Unreadable = 416, "no copy of a chunk can be read",
        "Every tracker that should have a chunk of the file is down, has lost it, or sends wrong bytes.",
        "`quorate cluster status` shows which trackers are there";

    DiskFull = 501, "the disk is full",
        "This machine has no room for what was to be written. Nothing half-written is left under the output's name.",
        "free some space and run it again";
    CannotListen = 502, "the address cannot be served on",
        "Another process listens there already, or the address is not one of this machine.",
        "choose another address, or stop the other process";
    System = 503, "the operating system refuses",
        "A thread, socket, temporary folder, random number or child process was not to be had.",
        "look at the limits of this user (`ulimit -a`) and the room for temporary files";
    MemberEnded = 504, "a member of the cluster did not come up",
        "A process that `quorate cluster up` started ended, or did not register in time. What it said is the cause.",
        "run with --dir FOLDER to keep the members' logs in FOLDER/logs";
    ReplicaTrouble = 505, "a replica cannot go on",
        "What a job-tracker replica or its trusted log kept on disk cannot be used, or its disk failed.",
        "is it running already? Otherwise the page *operating* tells how a replica begins anew";
    TrustedLogLost = 506, "the trusted log does not answer",
        "The process that holds a replica's trusted log is gone or serves another user. The replica says nothing without it.",
        "start `quorate trusted-log` first, and then the replica";
    TpmTrouble = 507, "the TPM will not do",
        "The TPM is missing, locked, used by others or refuses a command.",
        "`quorate tpm check` tells what is wrong with it";
    TrackerTrouble = 508, "the tracker cannot go on",
        "A task tracker's folder or chunk store cannot be used, or the tracker went down.",
        "is it running already? Each tracker needs its own --dir";
    NoBenchmarks = 509, "the benchmarks are not there",
        "`quorate bench` runs the program quorate-bench, which is built apart.",
        "build it with `cargo build --release -p quorate-bench`";

    CertificateRefused = 601, "the certificate does not hold",
        "A certificate lacks what it must have, has a wrong signature, is of another cluster, or certifies something else than \
         what it was compared with.",
        "do not rely on it: ask whoever gave it to you for the right one, and for the cluster's keys on a way that you trust";

    Differs = 701, "the program does not give the same each time",
        "`check-determinism` ran tasks of the program several times, and their outputs differ.",
        "mend what it names as the usual suspect; the guide's chapter on determinism lists what user code must not do";

    Interrupted = 901, "interrupted",
        "Ctrl-C ended the command. What it was making is not there; a submitted job runs on.",
        "run it again; nothing half-written is left";
}

impl Code {
    /// Its number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The exit code of a program that ends with it.
    pub const fn exit(self) -> Exit {
        match self.number() / 100 {
            1 => Exit::JobFailed,
            2 => Exit::Usage,
            3 => Exit::Path,
            4 => Exit::Cluster,
            5 => Exit::Machine,
            6 => Exit::Refused,
            7 => Exit::Differs,
            _ => Exit::Interrupted,
        }
    }
}

impl From<FailureKind> for Code {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::UserError => Code::ProgramError,
            FailureKind::UserPanic => Code::ProgramPanic,
            FailureKind::BadInput => Code::BadInput,
            FailureKind::Died => Code::ProgramDied,
        }
    }
}

impl From<&JobFailure> for Code {
    fn from(failure: &JobFailure) -> Self {
        match failure {
            JobFailure::Program { kind, .. } => (*kind).into(),
            JobFailure::Undecidable { .. } => Code::Undecidable,
            JobFailure::NotRunnable { .. } => Code::NotRunnable,
            JobFailure::Nondeterministic { .. } => Code::Nondeterministic,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q{:04}", self.number())
    }
}

/// A text that is no code of this program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no error code {0:?}; codes are written as in Q0301")]
pub struct UnknownCode(String);

impl FromStr for Code {
    type Err = UnknownCode;
    /// Accepts the displayed form in either case, and the bare number.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let digits = text.strip_prefix(['Q', 'q']).unwrap_or(text);
        let number: Option<u16> = digits.parse().ok();
        let known = Self::ALL.iter().find(|code| Some(code.number()) == number);
        known.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_parse_back_and_say_their_exit() {
        assert!(Code::ALL.is_sorted_by(|left, right| left.number() < right.number()));
        for code in Code::ALL {
            assert_eq!(code.to_string().parse(), Ok(*code));
            let exit = code.exit() as u8;
            assert!(u16::from(exit) == code.number() / 100 || code.number() / 100 == 9 && exit == 130, "{code}");
            assert!(!code.meaning().is_empty() && !code.remedy().ends_with('.'), "{code}: a hint is no sentence");
        }
        assert_eq!("q0301".parse(), Ok(Code::NotFound));
        assert!("Q9999".parse::<Code>().is_err() && "".parse::<Code>().is_err() && "Qx".parse::<Code>().is_err());
    }
}
