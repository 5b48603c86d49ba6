//! Objects that an operator names with `-f`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Stdin};
use std::path::{Path, PathBuf};

use model::object::ObjectId;
use model::{Kind, Object};

use crate::failure::Failure;

/// Reads and checks all objects; they come in the order in which they are to be written.
///
/// # Errors
/// All faults of all sources; nothing is returned then.
pub(crate) fn read(sources: &[PathBuf]) -> Result<Vec<Object>, Failure> {
    gather(sources, |text| {
        let objects = parse(text)?;
        let faults: Vec<String> = objects
            .iter()
            .filter_map(|o| model::validate::validate(o).err())
            .flatten()
            .map(|fault| fault.to_string())
            .collect();
        if faults.is_empty() {
            Ok(objects)
        } else {
            Err(faults)
        }
    })
}

/// As [`read`], but values are not checked: what is wrong can be deleted all the same.
pub(crate) fn read_names(sources: &[PathBuf]) -> Result<Vec<ObjectId>, Failure> {
    let objects = gather(sources, parse)?;
    Ok(objects.iter().map(Object::id).collect())
}

fn gather(
    sources: &[PathBuf],
    parse: impl Fn(&str) -> Result<Vec<Object>, Vec<String>>,
) -> Result<Vec<Object>, Failure> {
    let mut errors = Vec::new();
    let mut seen: BTreeMap<ObjectId, String> = BTreeMap::new();
    let mut objects = Vec::new();
    for (source, text) in texts(sources, &mut errors) {
        match parse(&text) {
            Ok(found) => {
                for object in found {
                    match seen.get(&object.id()) {
                        Some(first) => errors.push(format!(
                            "{source}: {}: is in {first} already: write it once",
                            object.id()
                        )),
                        None => {
                            seen.insert(object.id(), source.clone());
                            objects.push(object);
                        }
                    }
                }
            }
            Err(faults) => errors.extend(faults.into_iter().map(|f| format!("{source}: {f}"))),
        }
    }
    if !errors.is_empty() {
        return Err(Failure::Failed(errors));
    }
    if objects.is_empty() {
        return Err(Failure::new("no resource in what -f names"));
    }
    objects.sort_by_key(|o| Kind::ALL.iter().position(|k| *k == o.kind()));
    Ok(objects)
}

/// The one place that knows how a text becomes objects; without a namespace they live in `default`.
fn parse(text: &str) -> Result<Vec<Object>, Vec<String>> {
    use model::manifest::ManifestError;
    match model::manifest::parse(text) {
        Ok(mut objects) => {
            for object in &mut objects {
                if object.kind().is_namespaced() && object.metadata().namespace.is_none() {
                    object.metadata_mut().namespace = Some("default".to_owned());
                }
            }
            Ok(objects)
        }
        Err(ManifestError::Invalid(faults)) => {
            Err(faults.iter().map(ToString::to_string).collect())
        }
        Err(other) => Err(vec![other.to_string()]),
    }
}

/// Every text and how errors call it.
fn texts(sources: &[PathBuf], errors: &mut Vec<String>) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let mut take = |name: String, text: Result<String, String>| match text {
        Ok(text) => texts.push((name, text)),
        Err(e) => errors.push(format!("{name}: {e}")),
    };
    for source in sources {
        let name = source.display().to_string();
        if source.as_os_str() == "-" {
            let stdin: Stdin = std::io::stdin();
            take("stdin".to_owned(), limited(stdin.lock()));
        } else if source.is_dir() {
            match files_of(source) {
                Ok(files) => {
                    for file in files {
                        take(file.display().to_string(), read_file(&file));
                    }
                }
                Err(e) => take(name, Err(e)),
            }
        } else {
            take(name, read_file(source));
        }
    }
    texts
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for entry in dir.read_dir().map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let ends = path.extension().and_then(|e| e.to_str());
        if matches!(ends, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err("no *.yaml, *.yml or *.json in this directory".to_owned());
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<String, String> {
    limited(File::open(path).map_err(|e| e.to_string())?)
}

/// At most one byte more than what is refused as too large.
fn limited(reader: impl Read) -> Result<String, String> {
    let max = u64::try_from(model::manifest::MAX_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    reader
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() > model::manifest::MAX_BYTES {
        return Err(format!("is larger than {max} bytes: split it"));
    }
    String::from_utf8(bytes).map_err(|e| format!("is not UTF-8: {e}"))
}
