//! `quorate fs`: the cluster's file system.

use clap::Subcommand;
use futures::TryStreamExt;
use quorate::{
    amounts::{count, show_bytes},
    connection::{Connection, cluster_path},
    exit::Failure,
    files::{child, download, no_files, own_name, upload, walk},
    json::{self, Format},
    terminal::{print, print_bytes, print_table},
};
use quorate_jobtracker::client::ClientError;
use quorate_protocol::{command::Refusal, file::Path as ClusterPath, query::Entry};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Copies local files and folders into the cluster.
    ///
    /// Each chunk of a file gets copies in distinct failure domains: f+1 of them survive f liars. Files and folders whose
    /// names begin with a dot are left out of folders.
    Put {
        /// What to copy.
        #[arg(required = true, value_name = "LOCAL")]
        local: Vec<PathBuf>,
        /// Where to: a new name, or a folder that exists or ends with `/`.
        #[arg(value_name = "PATH")]
        path: String,
        /// Copies of each chunk.
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
        copies: u16,
    },
    /// Lists a folder.
    Ls {
        /// Which.
        #[arg(default_value = "/", value_name = "PATH")]
        path: String,
        #[command(flatten)]
        format: Format,
    },
    /// Writes files to standard output, every byte checked.
    Cat {
        /// A file, or a folder whose files are written one after the other.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Copies a file or folder out of the cluster, every byte checked.
    Get {
        /// What to copy.
        #[arg(value_name = "PATH")]
        path: String,
        /// Where to; it must not exist [default: the last part of PATH, in the current folder]
        #[arg(value_name = "LOCAL")]
        local: Option<PathBuf>,
    },
    /// Removes files.
    Rm {
        /// What to remove.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Remove folders with all that is in them.
        #[arg(short, long)]
        recursive: bool,
    },
    /// Tells how much files and folders hold.
    Du {
        /// Of what.
        #[arg(default_value = "/", value_name = "PATH")]
        path: String,
        #[command(flatten)]
        format: Format,
    },
}

pub(crate) async fn run(command: Command, folder: Option<&Path>) -> Result<(), Failure> {
    let connection = Connection::open(folder)?;
    match command {
        Command::Put { local, path, copies } => put(&connection, &local, &path, copies.into()).await,
        Command::Ls { path, format } => list(&connection, &path, format).await,
        Command::Cat { paths } => cat(&connection, &paths).await,
        Command::Get { path, local } => get(&connection, &path, local).await,
        Command::Rm { paths, recursive } => {
            for path in &paths {
                connection.client.remove(cluster_path(path)?, recursive).await.map_err(not_removed)?;
            }
            Ok(())
        }
        Command::Du { path, format } => {
            let entries = connection.client.list(&cluster_path(&path)?).await?;
            if format.json {
                return json::print(&entries.iter().map(json::Stored::from).collect::<Vec<_>>());
            }
            let heading = ["SIZE", "PATH"].map(str::to_owned).to_vec();
            let row = |entry: &Entry| vec![show_bytes(entry.length), entry.path.to_string()];
            let rows: Vec<_> = std::iter::once(heading).chain(entries.iter().map(row)).collect();
            let total: u64 = entries.iter().map(|entry| entry.length).sum();
            print_table(&rows)?;
            print(&format!("{} in all\n", show_bytes(total)))
        }
    }
}

async fn list(connection: &Connection, path: &str, format: Format) -> Result<(), Failure> {
    let entries = connection.client.list(&cluster_path(path)?).await?;
    if format.json {
        return json::print(&entries.iter().map(json::Stored::from).collect::<Vec<_>>());
    }
    let heading = ["PATH", "SIZE", "HOLDS"].map(str::to_owned).to_vec();
    let row = |entry: &Entry| match entry.files {
        Some(files) => vec![entry.path.to_string() + "/", show_bytes(entry.length), count(files, "file")],
        None => vec![entry.path.to_string(), show_bytes(entry.length), copies(entry.copies)],
    };
    let rows: Vec<_> = std::iter::once(heading).chain(entries.iter().map(row)).collect();
    print_table(&rows)
}

fn copies(copies: u32) -> String {
    if copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") }
}

async fn put(connection: &Connection, local: &[PathBuf], path: &str, copies: usize) -> Result<(), Failure> {
    let target = cluster_path(path)?;
    let is_folder =
        path.ends_with('/') || local.len() > 1 || target.as_str() == "/" || is_folder(connection, &target).await?;
    let mut found = Vec::new();
    for source in local {
        let place = if is_folder { child(&target, &own_name(source)?, source)? } else { target.clone() };
        let before = found.len();
        walk(source, &place, &mut found)?;
        if found.len() == before {
            return Err(no_files(source));
        }
    }
    // Nothing is stored for a name that is taken.
    for (_, place) in &found {
        match connection.client.file(place).await {
            Ok(_) | Err(ClientError::Refused(Refusal::IsFolder(_))) => {
                return Err(Refusal::Exists(place.to_string()).into());
            }
            Err(ClientError::Refused(Refusal::NotFound(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    upload(connection, &found, copies).await
}

fn not_removed(error: ClientError) -> Failure {
    let is_folder = matches!(error, ClientError::Refused(Refusal::IsFolder(_)));
    let failure = Failure::from(error);
    if is_folder { failure.hint("add -r to remove it with all that is in it") } else { failure }
}

async fn is_folder(connection: &Connection, path: &ClusterPath) -> Result<bool, Failure> {
    match connection.client.list(path).await {
        Ok(entries) => Ok(!matches!(entries.as_slice(), [only] if only.path == *path && only.files.is_none())),
        Err(ClientError::Refused(Refusal::NotFound(_))) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn cat(connection: &Connection, paths: &[String]) -> Result<(), Failure> {
    connection.refresh().await?;
    for path in paths {
        for (_, file) in connection.client.files(&cluster_path(path)?).await? {
            let mut blocks = std::pin::pin!(connection.chunks.read(&file));
            while let Some(block) = blocks.try_next().await? {
                if !print_bytes(&block)? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

async fn get(connection: &Connection, path: &str, local: Option<PathBuf>) -> Result<(), Failure> {
    let path = cluster_path(path)?;
    let local = match local {
        Some(local) => local,
        None if path.name().is_empty() => return Err(Failure::usage("name the folder that / is to be copied to")),
        None => PathBuf::from(path.name()),
    };
    download(connection, &path, &local).await.map(drop)
}
