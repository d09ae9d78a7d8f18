//! Reading a folder of results.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::doc::{Document, SCHEMA};
use crate::load::{LOAD_SCHEMA, LoadObject};

/// What a JSON file turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyDoc {
    /// A document of a bench.
    Bench(Box<Document>),
    /// An object of `zygix load`.
    Load(LoadObject),
    /// Something else, and why; a report names it.
    Skipped(String),
}

/// All files `*.json` of the folder `dir`: the comparison of stacks first, then by name; folders inside it are not entered.
///
/// Files that are no results come as [`AnyDoc::Skipped`]. It is an error, in a sentence for people, if the folder cannot be read or holds no
/// result at all.
pub fn load_dir(dir: &Path) -> Result<Vec<(PathBuf, AnyDoc)>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read the folder {}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read the folder {}", dir.display()))?.path();
        if path.extension().is_some_and(|ext| ext == "json") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut docs: Vec<(PathBuf, AnyDoc)> = paths
        .into_iter()
        .map(|path| {
            let doc = read(&path);
            (path, doc)
        })
        .collect();
    // What most readers came for.
    docs.sort_by_key(|(_, doc)| !matches!(doc, AnyDoc::Bench(d) if d.kind == "stacks"));
    let skipped: Vec<String> = docs
        .iter()
        .filter_map(|(path, doc)| match doc {
            AnyDoc::Skipped(why) => Some(format!("{} ({why})", file_name(path))),
            _ => None,
        })
        .collect();
    if skipped.len() == docs.len() {
        let found = if skipped.is_empty() { String::new() } else { format!("; not results: {}", skipped.join(", ")) };
        bail!(
            "{} holds no results{found}. Make some with `zygix bench ... --json FILE` or `zygix load ... --json FILE`",
            dir.display()
        );
    }
    Ok(docs)
}

fn read(path: &Path) -> AnyDoc {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => return AnyDoc::Skipped(format!("cannot be read: {error}")),
    };
    match serde_json::from_slice(&text) {
        Ok(value) => classify(value),
        Err(error) => AnyDoc::Skipped(format!("not JSON: {error}")),
    }
}

fn classify(value: Value) -> AnyDoc {
    match value.get("schema").and_then(Value::as_str) {
        Some(LOAD_SCHEMA) => AnyDoc::Load(LoadObject(value)),
        Some(SCHEMA) => match Document::deserialize(value) {
            Ok(document) => AnyDoc::Bench(Box::new(document)),
            Err(error) => AnyDoc::Skipped(format!("not a proper {SCHEMA} document: {error}")),
        },
        Some(other) => AnyDoc::Skipped(format!("its schema is `{other}`, not {SCHEMA} or {LOAD_SCHEMA}")),
        None => AnyDoc::Skipped("it has no schema".to_string()),
    }
}

/// The last part of a path, for people.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
