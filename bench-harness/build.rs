//! Notes the compiler: instruction counts mean something only beside others of the same one.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "an unknown compiler".into());
    let target = std::env::var("TARGET").unwrap_or_default();
    println!(
        "cargo:rustc-env=BENCH_BUILT_BY={}, {target}",
        version.trim()
    );
    println!("cargo:rerun-if-changed=build.rs");
}
