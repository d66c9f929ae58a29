//! Files between this machine and a cluster.

use crate::{
    connection::{Connection, cluster_path},
    exit::{Exit, Failure},
};
use futures::TryStreamExt;
use quorate_dfs::Upload;
use quorate_protocol::file::{File, Path as ClusterPath};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// Refuses an output that is there already.
pub(crate) fn check_absent(output: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(output) {
        Ok(_) => Err(Failure::new(Exit::Path, format!("the output {} exists already", output.display()))
            .hint("choose another --output, or remove it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io("cannot make the output", output, &error)),
    }
}

/// All files that `paths` name, folders with all that is in them, each with its path in the cluster below `root`.
/// Files whose names begin with a dot are left out of folders. Every file was opened once, so that what cannot be read is
/// said before anything is started.
///
/// # Errors
/// [`Exit::Path`] for what is missing or unreadable, and for a folder without files.
pub fn list(paths: &[PathBuf], root: &str) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut files = Vec::new();
    let mut names = BTreeSet::new();
    for path in paths {
        let name = own_name(path)?;
        // Two inputs of one name are kept apart by a number.
        let mut place = format!("{root}/{name}");
        let mut number = 1;
        while !names.insert(place.clone()) {
            number += 1;
            place = format!("{root}/{number}-{name}");
        }
        let before = files.len();
        walk(path, &place, &mut files)?;
        if files.len() == before {
            return Err(Failure::new(Exit::Path, format!("{} has no files", path.display())));
        }
    }
    Ok(files)
}

/// The last part of a path, also of `.` and `..`.
fn own_name(path: &Path) -> Result<String, Failure> {
    let unreadable = |e: io::Error| Failure::io("cannot read the input", path, &e);
    let name = match path.file_name() {
        Some(name) => name.to_owned(),
        None => fs::canonicalize(path).map_err(unreadable)?.file_name().unwrap_or(OsStr::new("root")).to_owned(),
    };
    text(&name, path)
}

fn text(name: &OsStr, path: &Path) -> Result<String, Failure> {
    let text = name.to_str().filter(|name| !name.chars().any(char::is_control)).map(str::to_owned);
    text.ok_or_else(|| {
        Failure::new(Exit::Path, format!("the name of {} has characters that no path may have", path.display()))
            .hint("rename the file; names are UTF-8 without control characters")
    })
}

fn walk(path: &Path, place: &str, files: &mut Vec<(PathBuf, String)>) -> Result<(), Failure> {
    let unreadable = |e: io::Error| Failure::io("cannot read the input", path, &e);
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        fs::File::open(path).map_err(unreadable)?;
        files.push((path.to_owned(), place.to_owned()));
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.file_name());
    }
    entries.sort();
    for entry in entries {
        let name = text(&entry, path)?;
        if !name.starts_with('.') {
            walk(&path.join(&entry), &format!("{place}/{name}"), files)?;
        }
    }
    Ok(())
}

/// Stores files in a cluster, with so many copies, and names them all in one command.
///
/// # Errors
/// [`Failure`].
pub async fn upload(connection: &Connection, files: &[(PathBuf, String)], copies: usize) -> Result<(), Failure> {
    connection.refresh().await?;
    let mut made = Vec::new();
    for (local, place) in files {
        let unreadable = |e: io::Error| Failure::io("cannot read the input", local, &e);
        let file = tokio::fs::File::open(local).await.map_err(unreadable)?;
        let length = file.metadata().await.map_err(unreadable)?.len();
        let stored = connection.chunks.upload(file, Upload::copies(copies).length(length)).await?;
        made.push((cluster_path(place)?, stored));
    }
    Ok(connection.client.create_files(made).await?)
}

/// What was fetched.
pub(crate) struct Fetched {
    pub(crate) folder: PathBuf,
    pub(crate) parts: Vec<PathBuf>,
}

/// Fetches a folder's files into a folder of this machine, which appears when all of it is there. Without a name it is a new
/// one for temporary files.
pub(crate) async fn download(
    connection: &Connection,
    from: &ClusterPath,
    name: &str,
    to: Option<&Path>,
) -> Result<Fetched, Failure> {
    connection.refresh().await?;
    let files = connection.client.files(from).await?;
    let unfinished = unfinished_folder(name, to)?;
    let mut names = Vec::new();
    for (path, file) in &files {
        let name = path.as_str().strip_prefix(from.as_str()).unwrap_or(path.as_str()).trim_start_matches('/');
        fetch(connection, file, &unfinished.path().join(name)).await?;
        names.push(name.to_owned());
    }
    let folder = match to {
        Some(to) => {
            check_absent(to)?;
            fs::rename(unfinished.path(), to).map_err(|e| Failure::io("cannot make the output", to, &e))?;
            // It has another name now, and nothing is left to remove.
            let _ = unfinished.keep();
            to.to_owned()
        }
        None => unfinished.keep(),
    };
    let parts = names.iter().map(|name| folder.join(name)).collect();
    Ok(Fetched { folder, parts })
}

/// A folder beside the one that is to be made, so that it can take its name in one step.
fn unfinished_folder(name: &str, to: Option<&Path>) -> Result<TempDir, Failure> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    // The usual mode of a new folder, less what the user's mask takes away.
    builder.permissions(fs::Permissions::from_mode(0o777));
    match to {
        None => {
            let prefix = format!("quorate-{name}-");
            builder
                .prefix(&prefix)
                .tempdir()
                .map_err(|e| Failure::io("cannot make a folder in", std::env::temp_dir(), &e))
        }
        Some(to) => {
            let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let failed = |e: io::Error| Failure::io("cannot make a folder in", parent, &e);
            fs::create_dir_all(parent).map_err(failed)?;
            builder.prefix(".quorate-").tempdir_in(parent).map_err(failed)
        }
    }
}

/// Fetches one file, every byte of it verified.
///
/// # Errors
/// [`Failure`]; a file that was begun is left, unfinished.
pub async fn fetch(connection: &Connection, file: &File, to: &Path) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::io("cannot write", to, &e);
    let mut out = tokio::fs::File::create(to).await.map_err(failed)?;
    let mut blocks = connection.chunks.read(file);
    while let Some(block) = blocks.try_next().await? {
        out.write_all(&block).await.map_err(failed)?;
    }
    out.flush().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_listed_in_order_and_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/x")).expect("made");
        fs::create_dir_all(at("b")).expect("made");
        for name in ["a/x/2", "a/1", "a/.hidden", "b/1"] {
            fs::write(at(name), name).expect("written");
        }
        let listed = list(&[at("a"), at("a/1"), at("b/1")], "/in").expect("all readable");
        let places: Vec<&str> = listed.iter().map(|(_, place)| place.as_str()).collect();
        assert_eq!(places, ["/in/a/1", "/in/a/x/2", "/in/1", "/in/2-1"]);
    }

    #[test]
    fn missing_inputs_and_empty_folders_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().to_owned(), folder.path().join("nothing")] {
            assert_eq!(list(&[path], "/in").expect_err("refused").exit, Exit::Path);
        }
        assert_eq!(check_absent(folder.path()).expect_err("it exists").exit, Exit::Path);
        assert_eq!(check_absent(&folder.path().join("nothing")), Ok(()));
    }
}
