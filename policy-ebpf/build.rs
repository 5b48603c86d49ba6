//! Takes the programs into the library, if they have been built: `make bpf` does that, or `ROUTERD_BPF_OBJECT` says
//! where they are. Without them everything builds, and loading says what is missing.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=object");
    println!("cargo::rerun-if-env-changed=ROUTERD_BPF_OBJECT");
    let object = match env::var_os("ROUTERD_BPF_OBJECT") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            fs::read(path)?
        }
        None => match fs::read("object/policy.o") {
            Ok(object) => object,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        },
    };
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(PathBuf::from(out).join("policy.o"), object)
}
