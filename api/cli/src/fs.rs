//! `quorate fs`: the cluster's file system.

use crate::print;
use clap::Subcommand;
use futures::TryStreamExt;
use quorate::{
    amounts::show_bytes,
    connection::{Connection, cluster_path},
    exit::{Exit, Failure},
    report,
};
use quorate_dfs::Upload;
use quorate_jobtracker::client::ClientError;
use quorate_protocol::{
    command::Refusal,
    file::{File, Path as ClusterPath},
};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Copies local files and folders into the cluster, with f+1 copies of each chunk in distinct domains.
    Put {
        /// What to copy.
        #[arg(required = true, value_name = "LOCAL")]
        local: Vec<PathBuf>,
        /// Where to: a new name, or a folder that exists or ends with `/`.
        #[arg(value_name = "PATH")]
        path: String,
        /// Copies of each chunk.
        #[arg(long, value_name = "N", default_value_t = 2)]
        copies: usize,
    },
    /// Lists a folder.
    Ls {
        /// Which.
        #[arg(default_value = "/", value_name = "PATH")]
        path: String,
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
        /// Where to; it must not exist.
        #[arg(value_name = "LOCAL")]
        local: PathBuf,
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
    },
}

pub(crate) async fn run(command: Command, folder: Option<&Path>) -> Result<(), Failure> {
    let connection = Connection::open(folder)?;
    match command {
        Command::Put { local, path, copies } => put(&connection, &local, &path, copies).await,
        Command::Ls { path } => list(&connection, &path).await,
        Command::Cat { paths } => cat(&connection, &paths).await,
        Command::Get { path, local } => get(&connection, &path, &local).await,
        Command::Rm { paths, recursive } => {
            for path in &paths {
                connection.client.remove(cluster_path(path)?, recursive).await?;
            }
            Ok(())
        }
        Command::Du { path } => {
            let entries = connection.client.list(&cluster_path(&path)?).await?;
            let rows: Vec<Vec<String>> =
                entries.iter().map(|entry| vec![show_bytes(entry.length), entry.path.to_string()]).collect();
            let total: u64 = entries.iter().map(|entry| entry.length).sum();
            print(&report::table(&rows))?;
            print(&format!("{} in all\n", show_bytes(total)))
        }
    }
}

async fn list(connection: &Connection, path: &str) -> Result<(), Failure> {
    let entries = connection.client.list(&cluster_path(path)?).await?;
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| match entry.files {
            Some(files) => vec![entry.path.to_string() + "/", show_bytes(entry.length), format!("{files} files")],
            None => vec![entry.path.to_string(), show_bytes(entry.length), format!("{} copies", entry.copies)],
        })
        .collect();
    print(&report::table(&rows))
}

async fn put(connection: &Connection, local: &[PathBuf], path: &str, copies: usize) -> Result<(), Failure> {
    let target = cluster_path(path)?;
    let is_folder =
        path.ends_with('/') || local.len() > 1 || target.as_str() == "/" || is_folder(connection, &target).await?;
    let mut sources = Vec::new();
    for source in local {
        let name = source.file_name().and_then(|name| name.to_str());
        let to = match (is_folder, name) {
            (false, _) => target.clone(),
            (true, Some(name)) => target.join(name).map_err(Failure::usage)?,
            (true, None) => return Err(Failure::usage(format!("{} has no name of its own", source.display()))),
        };
        collect(source, &to, &mut sources)?;
    }
    if sources.is_empty() {
        return Err(Failure::new(Exit::Path, "there is no file to put").hint("an empty folder cannot be stored"));
    }
    // Nothing is stored for a name that is taken.
    for (_, to) in &sources {
        match connection.client.file(to).await {
            Ok(_) => return Err(Refusal::Exists(to.to_string()).into()),
            Err(ClientError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    connection.refresh().await?;
    let mut files: Vec<(ClusterPath, File)> = Vec::new();
    for (source, to) in &sources {
        let opened = tokio::fs::File::open(source).await.map_err(|error| Failure::io("cannot read", source, &error))?;
        let length = opened.metadata().await.map_err(|error| Failure::io("cannot read", source, &error))?.len();
        let upload = Upload::copies(copies).length(length);
        files.push((to.clone(), connection.chunks.upload(opened, upload).await?));
    }
    connection.client.create_files(files).await?;
    Ok(())
}

async fn is_folder(connection: &Connection, path: &ClusterPath) -> Result<bool, Failure> {
    match connection.client.list(path).await {
        Ok(entries) => Ok(!matches!(entries.as_slice(), [only] if only.path == *path && only.files.is_none())),
        Err(ClientError::Refused(Refusal::NotFound(_))) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The files in a local file or folder, with their paths in the cluster, in the order of their names.
fn collect(source: &Path, to: &ClusterPath, sources: &mut Vec<(PathBuf, ClusterPath)>) -> Result<(), Failure> {
    let metadata = std::fs::metadata(source).map_err(|error| Failure::io("cannot read", source, &error))?;
    if !metadata.is_dir() {
        sources.push((source.to_owned(), to.clone()));
        return Ok(());
    }
    let entries = std::fs::read_dir(source).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.map_err(|error| Failure::io("cannot read", source, &error))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            Failure::new(Exit::Path, format!("{} is not UTF-8, and paths in the cluster are", entry.path().display()))
        })?;
        collect(&entry.path(), &to.join(name).map_err(Failure::usage)?, sources)?;
    }
    Ok(())
}

async fn cat(connection: &Connection, paths: &[String]) -> Result<(), Failure> {
    connection.refresh().await?;
    for path in paths {
        for (_, file) in connection.client.files(&cluster_path(path)?).await? {
            let mut blocks = std::pin::pin!(connection.chunks.read(&file));
            while let Some(block) = blocks.try_next().await? {
                match std::io::stdout().write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) => return Err(Failure::io("cannot write", "standard output", &error)),
                }
            }
        }
    }
    Ok(())
}

async fn get(connection: &Connection, path: &str, local: &Path) -> Result<(), Failure> {
    if local.exists() {
        return Err(Failure::new(Exit::Path, format!("{} exists already", local.display()))
            .hint("choose another name; nothing is overwritten"));
    }
    connection.refresh().await?;
    let path = cluster_path(path)?;
    let files = connection.client.files(&path).await?;
    let parent = local.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Everything is written beside the target first, so that nothing half-written ever has its name.
    let partial = tempfile::Builder::new().prefix(".quorate-get-").tempdir_in(parent);
    let partial = partial.map_err(|error| Failure::io("cannot write in", parent, &error))?;
    for (file_path, file) in &files {
        let below = file_path.as_str().strip_prefix(path.as_str()).unwrap_or_default().trim_start_matches('/');
        let target = if below.is_empty() { partial.path().join("it") } else { partial.path().join("it").join(below) };
        write_file(connection, file, &target).await?;
    }
    std::fs::rename(partial.path().join("it"), local).map_err(|error| Failure::io("cannot write", local, &error))
}

async fn write_file(connection: &Connection, file: &File, target: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::io("cannot write", target, &error);
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder).map_err(cannot)?;
    }
    let mut out = std::fs::File::create(target).map_err(cannot)?;
    let mut blocks = std::pin::pin!(connection.chunks.read(file));
    while let Some(block) = blocks.try_next().await? {
        out.write_all(&block).map_err(cannot)?;
    }
    Ok(())
}
