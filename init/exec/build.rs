//! Links `keeper-exec` without a C library, and at fixed addresses, since nothing relocates it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo::rustc-link-arg-bin=keeper-exec={argument}");
    }
}
