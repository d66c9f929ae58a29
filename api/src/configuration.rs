//! The cluster's configuration file, which says who its members are: how it is read, and what its keys mean.

use crate::{
    exit::{Code, Failure},
    toml_file::TomlFile,
};
use quorate_protocol::cluster::Cluster;
use std::{fs, path::Path};
use toml::de::{DeTable, DeValue};

/// A key of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The table it stands in: none, `replica`, `replica.tpm` or `tracker`.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn key(table: &'static str, name: &'static str, meaning: &'static str) -> Key {
    Key { table, name, meaning }
}

/// All keys, in the order in which the file is written.
pub const KEYS: &[Key] = &[
    key("", "name", "a name for people; part of the cluster's identity"),
    key("", "f", "how many replicas of the job tracker may lie"),
    key("", "agreement", "`minbft`, with trusted logs (2f + 1 replicas, the default), or `pbft` (3f + 1)"),
    key("", "allow_liars", "whether members may be told to lie, for tests; `false` unless said otherwise"),
    key("", "clients", "the public keys that may submit jobs and change files, in hexadecimal digits"),
    key("", "authority", "the public key that may put another TPM in a replica's place; nobody may without it"),
    key("", "replica", "a replica of the job tracker: `[[replica]]` for each, in the order of their numbers"),
    key("replica", "id", "its number, from 0"),
    key("replica", "address", "`host:port` of its service"),
    key("replica", "key", "its public key"),
    key("replica", "log", "the public key of its trusted log, where that is a process of its own"),
    key("replica", "page", "`host:port` of its page for people, when it shows one"),
    key("replica", "tpm", "the TPM that is its trusted log: `[replica.tpm]`, as `quorate tpm enrol` writes it"),
    key("replica.tpm", "pcr", "the PCR that is the chain, 0 to 15"),
    key("replica.tpm", "firmware", "the version of the chip's firmware"),
    key("replica.tpm", "key", "the attestation key"),
    key("", "tracker", "a task tracker: `[[tracker]]` for each"),
    key("tracker", "id", "its number"),
    key("tracker", "domain", "its failure domain: trackers that may fail or lie together have the same label"),
    key("tracker", "key", "its public key"),
];

/// Reads a cluster's configuration. What is wrong with it is `code`.
///
/// # Errors
/// As [`Failure::io`], or `code` with the place of what is wrong.
pub fn read(path: &Path, code: Code) -> Result<Cluster, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::io("cannot read", path, &error))?;
    parse(path, &text, code)
}

/// The same for a text that was read from `path`.
///
/// # Errors
/// `code`, with the place of what is wrong.
pub fn parse(path: &Path, text: &str, code: Code) -> Result<Cluster, Failure> {
    let file = TomlFile::new(path, text, code);
    check_keys(&file, code, "", &file.table()?)?;
    let cluster: Cluster = toml::from_str(text).map_err(|error| file.malformed(&error))?;
    cluster.check().map_err(|what| Failure::new(code, format!("{}: {what}", path.display())))?;
    Ok(cluster)
}

fn check_keys(file: &TomlFile<'_>, code: Code, section: &str, table: &DeTable<'_>) -> Result<(), Failure> {
    let known: Vec<&str> = KEYS.iter().filter(|key| key.table == section).map(|key| key.name).collect();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if !known.contains(&name) {
            return Err(file.unknown_key(code, key.span().start, name, &known));
        }
        let below = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        match value.get_ref() {
            DeValue::Table(table) => check_keys(file, code, &below, table)?,
            DeValue::Array(entries) => {
                for table in entries.iter().filter_map(|entry| entry.get_ref().as_table()) {
                    check_keys(file, code, &below, table)?;
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{
        cluster::{Agreement, ReplicaMember, TrackerMember},
        enrolled::EnrolledTpm,
        ids::{Domain, ReplicaId, TrackerId},
        sign::SecretKey,
    };

    /// A configuration in which everything is said that can be.
    fn full() -> Cluster {
        let key = |seed| SecretKey::from_seed([seed; 32]).public();
        let replica = |id, log, tpm| ReplicaMember {
            id: ReplicaId::new(id),
            address: "127.0.0.1:1".to_owned(),
            key: key(id as u8),
            log,
            tpm,
            page: (id == 0).then(|| "127.0.0.1:2".to_owned()),
        };
        let tpm = EnrolledTpm { pcr: 14, firmware: [1; 8], key: [2; 64] };
        Cluster {
            name: "full".to_owned(),
            f: 1,
            agreement: Agreement::Minbft,
            allow_liars: false,
            clients: vec![key(9)],
            authority: Some(key(9)),
            replicas: vec![replica(0, Some(key(8)), None), replica(1, None, Some(tpm)), replica(2, None, None)],
            trackers: vec![TrackerMember { id: TrackerId::new(0), domain: Domain("d".to_owned()), key: key(7) }],
        }
    }

    fn keys_of(section: &str, table: &DeTable<'_>, found: &mut Vec<(String, String)>) {
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let below = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            found.push((section.to_owned(), name));
            let tables = value.get_ref().as_array().into_iter().flat_map(|all| all.iter());
            for table in tables.filter_map(|entry| entry.get_ref().as_table()).chain(value.get_ref().as_table()) {
                keys_of(&below, table, found);
            }
        }
    }

    #[test]
    fn the_keys_are_those_of_the_type() {
        let text = toml::to_string(&full()).expect("TOML");
        let mut written = Vec::new();
        keys_of("", &DeTable::parse(&text).expect("TOML").into_inner(), &mut written);
        written.sort();
        written.dedup();
        let mut described: Vec<_> = KEYS.iter().map(|key| (key.table.to_owned(), key.name.to_owned())).collect();
        described.sort();
        assert_eq!(described, written);
        assert_eq!(parse(Path::new("c.toml"), &text, Code::ClusterConfiguration), Ok(full()));
    }

    #[test]
    fn unknown_keys_are_refused_at_every_depth_with_their_place() {
        let text = toml::to_string(&full()).expect("TOML");
        let refused = |from: &str, to: &str| {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            parse(Path::new("c.toml"), &changed, Code::ClusterConfiguration).expect_err("unknown").to_string()
        };
        assert!(refused("allow_liars", "allow_lairs").contains("hint: did you mean `allow_liars`?"));
        assert!(refused("pcr = 14", "pcrs = 14").contains("did you mean `pcr`?"));
        let domain = refused("domain = ", "domian = ");
        let line = text.lines().position(|line| line.starts_with("domain")).expect("a tracker") + 1;
        assert!(domain.contains(&format!("c.toml:{line}:1: there is no key `domian` here")), "{domain}");
        let kind = refused("f = 1", "f = \"many\"");
        assert!(kind.contains("c.toml:2:5: invalid type"), "{kind}");
    }
}
