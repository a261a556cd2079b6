//! The pages that users read, walked on the node: each is a test of the page's path, which runs all commands of the page as they are written.
//! How a page says what can't be run here, or what is to come of it, is in the crate `keeper-walk`. Pages that have a test of their own
//! say which. What a page puts into the cluster goes with its namespace; those that change the installation itself are walked one at a
//! time, and it is put back after each.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use keeper_e2e::{Namespace, node, reader, repository};
use keeper_walk::{Page, pages};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What pages share.
#[derive(Default)]
struct Site {
    /// Taken for writing by a page that must be alone.
    installation: RwLock<()>,
    /// The namespaces of a fixed name.
    names: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

fn main() {
    let mut arguments = Arguments::from_args();
    // As the harness of the other tests takes it.
    let threads = std::env::var("RUST_TEST_THREADS").ok();
    arguments.test_threads = arguments
        .test_threads
        .or(threads.and_then(|threads| threads.parse().ok()));
    let site = Arc::new(Site::default());
    let mut trials = Vec::new();
    for path in pages(repository()).unwrap() {
        let page = Page::read(repository(), &path).unwrap();
        if page.by.is_some() || !page.has_commands() {
            continue;
        }
        let slow = page.slow.is_some();
        let site = Arc::clone(&site);
        trials.push(Trial::test(path, move || walk(&page, &site)).with_ignored_flag(slow));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn walk(page: &Page, site: &Site) -> Result<(), Failed> {
    // A page that failed has left everything as one that did not.
    let (_shared, _alone);
    if page.alone.is_some() {
        // They go in this order: the next page finds the installation as it was.
        _alone = (
            node::PutBack,
            site.installation
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    } else {
        _shared = site
            .installation
            .read()
            .unwrap_or_else(PoisonError::into_inner);
    }
    let of_that_name;
    let _of_that_name;
    let name = if let Some(name) = &page.namespace {
        let mut names = site.names.lock().unwrap_or_else(PoisonError::into_inner);
        of_that_name = Arc::clone(names.entry(name.clone()).or_default());
        drop(names);
        _of_that_name = of_that_name.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone()
    } else {
        let path = page.path.trim_end_matches(".md").to_lowercase();
        // A name that an earlier run on the same node did not use.
        format!("{}-{}", path.replace('/', "-"), std::process::id())
    };
    let namespace = match page.bare {
        Some(_) => Namespace::empty(&name),
        None => Namespace::named(&name),
    };
    let outcome = reader(namespace.name()).walk(page, &page.steps);
    outcome.map_err(|failure| {
        namespace.print_state();
        Failed::from(failure)
    })
}
