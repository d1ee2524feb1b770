use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-env-changed=CRAW_LIB");
    let folder = env::var("CRAW_LIB").expect("CRAW_LIB names the folder that has libcraw.a");
    println!("cargo:rerun-if-changed={folder}/libcraw.a");
    println!("cargo:rustc-link-search=native={folder}");
    println!("cargo:rustc-link-lib=static=craw");
    println!("cargo:rustc-env=TOKIO_VERSION={}", tokio_version());
}

/// Cargo tells a program its own version only, so Tokio's is read from the lock file that this build made.
fn tokio_version() -> String {
    let folder = env::var("CARGO_MANIFEST_DIR").expect("CARGO_MANIFEST_DIR");
    let lock = fs::read_to_string(Path::new(&folder).join("Cargo.lock")).expect("Cargo.lock");
    let version = lock.split("name = \"tokio\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    version.expect("tokio in Cargo.lock").to_string()
}
