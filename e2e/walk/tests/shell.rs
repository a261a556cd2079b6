//! Pages that are walked on this machine alone.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use keeper_walk::{Failure, Page, Shell};
use std::fs;

/// Walks a page in a repository that has one file.
fn walk(text: &str) -> Result<(), Failure> {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("README.md"), "hello\n").unwrap();
    let shell = Shell::new(root.path()).unwrap();
    let shell = shell
        .launched_by(&["env", "LAUNCHED=yes"])
        .with_variable("NAMESPACE", "here")
        .with_name("POD", "orders");
    let page = Page::parse("docs/page.md", text).unwrap();
    shell.walk(&page, &page.steps)
}

#[test]
fn blocks_are_run_in_one_folder_as_one_shell_would() {
    let page = r#"
<!-- walk: file: values.yaml -->
```yaml
a: 1
```

<!-- walk: expect: hello -->
<!-- walk: expect: yes here orders orders-0 aPOD -->
```sh
cat README.md
echo "$LAUNCHED $NAMESPACE POD POD-0 aPOD" >&2
export SET=before
function add() { echo $(($1 + $2)); }
mkdir sub
cd sub
```

<!-- walk: also: test "$SET" = before && echo done >by-other-means -->

<!-- walk: let: FILE=../values.yaml -->
<!-- walk: expect: a: 1 -->
```sh
test -f by-other-means
test "$(add 1 2)" = 3
cat FILE
```

<!-- walk: skip: it would fail -->
```sh
false
```
"#;
    walk(page).unwrap();
}

#[test]
fn a_command_that_goes_on_or_comes_late_is_waited_for() {
    let page = r#"
<!-- walk: until: ready -->
```sh
echo "ready"
exec sleep 1000
```

<!-- walk: until: xxx -->
```sh
printf x >>count
cat count
```
"#;
    walk(page).unwrap();
}

#[test]
fn what_is_expected_to_fail_or_may_do_so() {
    let page = r#"
<!-- walk: fails: it is refused -->
<!-- walk: expect: No such file -->
```sh
ls /no/such
```

<!-- walk: may fail: there may be no line -->
<!-- walk: expect: the next -->
```sh
grep goodbye README.md
echo the next
```
"#;
    walk(page).unwrap();
}

#[test]
fn a_failure_says_where_and_what() {
    for (page, message) in [
        (
            "```sh\ntrue\ncat README.md | grep -c goodbye\n```\n",
            "docs/page.md:3: failed: exit status: 1\n  > true\n  > cat README.md | grep -c goodbye\n0\n",
        ),
        (
            "<!-- walk: fails: x -->\n```sh\necho fine\n```\n",
            "docs/page.md:3: was to fail\n  > echo fine\nfine\n",
        ),
        (
            "<!-- walk: expect: POD -->\n```sh\necho fine\n```\n",
            "docs/page.md:3: did not say \"orders\"\n  > echo fine\nfine\n",
        ),
        (
            "<!-- walk: may fail: x -->\n```sh\necho 'unknown flag'\nfalse\n```\n",
            "docs/page.md:4: may fail, but not by \"unknown flag\"\n  > echo 'unknown flag'\n  > false\nunknown flag\n",
        ),
        (
            "\n\n<!-- walk: also: echo a\nfalse\n-->\n",
            "docs/page.md:4: failed: exit status: 1\n  > echo a\n  > false\na\n",
        ),
        (
            "<!-- walk: file: no/such -->\n```yaml\na\n```\n",
            "docs/page.md:3: no/such: No such file or directory (os error 2)\n",
        ),
    ] {
        assert_eq!(walk(page).unwrap_err().to_string(), message);
    }
    // Bash itself names the line of the page, too.
    let unset = walk("text\n\n```sh\ntrue\necho $UNSET\n```\n").unwrap_err();
    assert!(
        unset.output.contains("page.md: line 5: UNSET"),
        "{}",
        unset.output
    );
}
