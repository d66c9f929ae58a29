//! Files between this machine and a cluster.

use crate::{
    connection::Connection,
    exit::{Code, Failure},
    progress::Transfer,
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

/// A file of this machine, and the path that it has, or is to have, in the cluster.
pub type Pair = (PathBuf, ClusterPath);

/// Refuses an output on this machine that is there already, or that could not be made.
///
/// # Errors
/// [`Code::Exists`], or [`Code::NoFolder`] when its folder does not; otherwise as the folder's state demands.
pub fn check_output(output: &Path) -> Result<(), Failure> {
    check_absent(output)?;
    // Whether it can be made shows when it is tried.
    unfinished_folder(output).map(drop)
}

fn check_absent(output: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(output) {
        Ok(_) => Err(Failure::new(Code::Exists, format!("{} exists already", output.display()))
            .hint("choose another name, or remove it; nothing is overwritten")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io("cannot make", output, &error)),
    }
}

/// All files that `inputs` name, folders with all that is in them, each with its place in the folder `root`.
///
/// # Errors
/// As [`walk`], and [`Code::NoFiles`] for a folder without files.
pub fn list(inputs: &[PathBuf], root: &ClusterPath) -> Result<Vec<Pair>, Failure> {
    let mut files = Vec::new();
    let mut taken = BTreeSet::new();
    for input in inputs {
        let name = own_name(input)?;
        let mut place = child(root, &name, input)?;
        // Two inputs of one name are kept apart by a number.
        let mut number = 1;
        while !taken.insert(place.clone()) {
            number += 1;
            let mut numbered = std::ffi::OsString::from(format!("{number}-"));
            numbered.push(&name);
            place = child(root, &numbered, input)?;
        }
        let before = files.len();
        walk(input, &place, &mut files)?;
        if files.len() == before {
            return Err(no_files(input));
        }
    }
    Ok(files)
}

/// A folder has nothing in it that could be stored.
pub fn no_files(folder: &Path) -> Failure {
    Failure::new(Code::NoFiles, format!("{} has no files", folder.display()))
        .hint("files whose names begin with a dot are left out")
}

/// The last part of a path, also of `.` and `..`.
///
/// # Errors
/// When it names nothing.
pub fn own_name(path: &Path) -> Result<std::ffi::OsString, Failure> {
    match path.file_name() {
        Some(name) => Ok(name.to_owned()),
        None => {
            let whole = fs::canonicalize(path).map_err(|e| Failure::io("cannot read", path, &e))?;
            Ok(whole.file_name().unwrap_or(OsStr::new("root")).to_owned())
        }
    }
}

/// The path of something in a folder of the cluster, named as it is on this machine.
///
/// # Errors
/// [`Code::BadName`] for a name that no path may have.
pub fn child(folder: &ClusterPath, name: &OsStr, local: &Path) -> Result<ClusterPath, Failure> {
    let joined = name.to_str().ok_or_else(|| "it is not UTF-8".to_owned()).and_then(|name| folder.join(name));
    joined.map_err(|why| {
        Failure::new(Code::BadName, format!("the name of {local:?} cannot be used in the cluster: {why}"))
            .hint("rename the file; names are UTF-8 without control characters")
    })
}

/// Adds the file `local`, or all files in the folder of that name, in the order of their names. Files and folders whose
/// names begin with a dot are left out of folders. Each file was opened once, so that what cannot be read is said before
/// anything is stored.
///
/// # Errors
/// As [`Failure::io`], for what is missing or unreadable.
pub fn walk(local: &Path, place: &ClusterPath, files: &mut Vec<Pair>) -> Result<(), Failure> {
    let unreadable = |e: io::Error| Failure::io("cannot read", local, &e);
    if !fs::metadata(local).map_err(unreadable)?.is_dir() {
        fs::File::open(local).map_err(unreadable)?;
        files.push((local.to_owned(), place.clone()));
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(local).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
    }
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    names.sort();
    for name in names {
        let entry = local.join(&name);
        walk(&entry, &child(place, &name, &entry)?, files)?;
    }
    Ok(())
}

/// Stores files in a cluster, with so many copies, and names them all in one command. Shows on a terminal how far it is.
///
/// # Errors
/// [`Failure`].
pub async fn upload(connection: &Connection, files: &[Pair], copies: usize) -> Result<(), Failure> {
    connection.refresh().await?;
    let mut total = 0;
    for (local, _) in files {
        total += fs::metadata(local).map_err(|e| Failure::io("cannot read", local, &e))?.len();
    }
    let transfer = Transfer::new("storing", total);
    let mut made = Vec::new();
    for (local, place) in files {
        made.push((place.clone(), store(connection, local, Upload::copies(copies), &transfer).await?));
    }
    Ok(connection.client.create_files(made).await?)
}

/// Stores one file's bytes, which have no name in the cluster then.
pub(crate) async fn store(
    connection: &Connection,
    local: &Path,
    how: Upload,
    transfer: &Transfer,
) -> Result<File, Failure> {
    let unreadable = |e: io::Error| Failure::io("cannot read", local, &e);
    let file = tokio::fs::File::open(local).await.map_err(unreadable)?;
    let length = file.metadata().await.map_err(unreadable)?.len();
    let how = how.length(length).progress(transfer.part());
    Ok(connection.chunks.upload(file, how).await?)
}

/// Copies a file or folder out of a cluster, every byte verified. `to` appears when all of it is there. Gives the files.
///
/// # Errors
/// [`Failure`]; nothing is left behind then.
pub async fn download(connection: &Connection, from: &ClusterPath, to: &Path) -> Result<Vec<PathBuf>, Failure> {
    check_absent(to)?;
    let beside = unfinished_folder(to)?;
    let whole = beside.path().join("whole");
    let names = fetch_all(connection, from, &whole).await?;
    check_absent(to)?;
    fs::rename(&whole, to).map_err(|e| Failure::io("cannot make", to, &e))?;
    Ok(names.iter().map(|name| inside(to, name)).collect())
}

/// Copies a folder out of a cluster into a new one for temporary files, and gives it with its files.
pub(crate) async fn download_temporary(
    connection: &Connection,
    from: &ClusterPath,
    name: &str,
) -> Result<(PathBuf, Vec<PathBuf>), Failure> {
    let folder = tempfile::Builder::new().prefix(&format!("quorate-{name}-")).tempdir();
    let folder = folder.map_err(|e| Failure::io("cannot make a folder in", std::env::temp_dir(), &e))?;
    let names = fetch_all(connection, from, folder.path()).await?;
    let folder = folder.keep();
    let files = names.iter().map(|name| folder.join(name)).collect();
    Ok((folder, files))
}

/// A folder beside the output that is to be made, which so can take its name in one step.
fn unfinished_folder(to: &Path) -> Result<TempDir, Failure> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".quorate-").tempdir_in(parent).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let message = format!("cannot make {}: there is no folder {}", to.display(), parent.display());
            Failure::new(Code::NoFolder, message)
        }
        _ => Failure::io("cannot make a file in", parent, &error),
    })
}

/// Fetches a file to `to`, or the files of a folder into it, and gives their names in it.
async fn fetch_all(connection: &Connection, from: &ClusterPath, to: &Path) -> Result<Vec<String>, Failure> {
    connection.refresh().await?;
    let files = connection.client.files(from).await?;
    let transfer = Transfer::new("fetching", files.iter().map(|(_, file)| file.manifest.length()).sum());
    let mut names = Vec::new();
    for (path, file) in &files {
        let name = path.as_str().strip_prefix(from.as_str()).unwrap_or(path.as_str()).trim_start_matches('/');
        fetch(connection, file, &inside(to, name), &transfer).await?;
        names.push(name.to_owned());
    }
    Ok(names)
}

/// A file in a folder; without a name, the file itself.
fn inside(to: &Path, name: &str) -> PathBuf {
    if name.is_empty() { to.to_owned() } else { to.join(name) }
}

async fn fetch(connection: &Connection, file: &File, to: &Path, transfer: &Transfer) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::io("cannot write", to, &e);
    if let Some(folder) = to.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    let mut out = tokio::fs::File::create(to).await.map_err(failed)?;
    let mut blocks = connection.chunks.read(file);
    while let Some(block) = blocks.try_next().await? {
        out.write_all(&block).await.map_err(failed)?;
        transfer.advance(block.len() as u64);
    }
    out.flush().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connection::cluster_path, exit::Exit};

    #[test]
    fn inputs_are_listed_in_order_and_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/x")).expect("made");
        fs::create_dir_all(at("a/.git")).expect("made");
        fs::create_dir_all(at("b")).expect("made");
        for name in ["a/x/2", "a/1", "a/.hidden", "a/.git/config", "b/1"] {
            fs::write(at(name), name).expect("written");
        }
        let root = cluster_path("/in").expect("a path");
        let listed = list(&[at("a"), at("a/1"), at("b/1")], &root).expect("all readable");
        let places: Vec<&str> = listed.iter().map(|(_, place)| place.as_str()).collect();
        assert_eq!(places, ["/in/a/1", "/in/a/x/2", "/in/1", "/in/2-1"]);
    }

    #[test]
    fn missing_inputs_and_empty_folders_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = cluster_path("/in").expect("a path");
        for path in [folder.path().to_owned(), folder.path().join("nothing")] {
            assert_eq!(list(&[path], &root).expect_err("refused").exit(), Exit::Path);
        }
        fs::write(folder.path().join("line\nbreak"), "").expect("written");
        let refused = list(&[folder.path().to_owned()], &root).expect_err("no path");
        assert!(refused.message.contains("control character"), "{refused}");
    }

    #[test]
    fn an_output_needs_a_folder_to_be_in_and_leaves_nothing_when_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        assert_eq!(check_output(&at("new")), Ok(()));
        assert_eq!(check_output(folder.path()).expect_err("it exists").code, Code::Exists);
        let refused = check_output(&at("nope/deeper/x")).expect_err("no such folder");
        assert_eq!(refused.code, Code::NoFolder);
        assert!(refused.message.contains("there is no folder"), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
    }
}
