//! The file names of a folder's records. A record keeps the name that it was first published under; a new one gets
//! its title's, and where two would have the same, a part of its UID behind it.

use std::collections::{HashMap, HashSet};

use keeper_ksm::Uid;

const EXTENSION: &str = ".json";
/// How much of a title goes into a name: with the longest ending it stays within 255 bytes.
const MAX_TITLE_BYTES: usize = 200;
/// Characters of the UID that tell two records of one title apart.
const UID_PART: usize = 8;

/// Names for records that have none yet, in the order of `records`; none of them in `taken`, to which they are added.
pub(crate) fn assign(records: &[(Uid, &str)], taken: &mut HashSet<String>) -> Vec<String> {
    let bases: Vec<String> = records
        .iter()
        .map(|(uid, title)| base(title, *uid))
        .collect();
    let mut count: HashMap<&str, usize> = HashMap::new();
    for base in &bases {
        *count.entry(base).or_default() += 1;
    }
    let mut names = Vec::with_capacity(records.len());
    for ((uid, _), base) in records.iter().zip(&bases) {
        let uid = uid.as_str();
        let part = uid.get(..UID_PART).unwrap_or(uid);
        let alone = count.get(base.as_str()) == Some(&1);
        let candidates = [
            alone.then(|| base.clone()),
            Some(format!("{base}-{part}")),
            Some(format!("{base}-{uid}")),
        ];
        let free = |stem: String| {
            let name = format!("{stem}{EXTENSION}");
            (!taken.contains(&name)).then_some(name)
        };
        // Only a vault that is made for it needs the last one.
        let name = candidates.into_iter().flatten().find_map(free);
        let name = name.unwrap_or_else(|| format!("{uid}-{}{EXTENSION}", taken.len()));
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

/// What a title gives to a name: letters, digits, `-`, `_` and `.` stay, blanks become `-`, all else is left out, and
/// so are dots at the beginning. The UID, if nothing stays.
fn base(title: &str, uid: Uid) -> String {
    let kept: String = title
        .trim()
        .chars()
        .filter_map(|c| match c {
            c if c.is_whitespace() => Some('-'),
            c if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') => Some(c),
            _ => None,
        })
        .collect();
    let kept = kept.trim_start_matches('.');
    let kept = kept
        .get(..kept.floor_char_boundary(MAX_TITLE_BYTES))
        .unwrap_or(kept);
    match kept {
        "" => uid.to_string(),
        kept => kept.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(label: &str) -> Uid {
        format!("{label:A<22}").parse().unwrap()
    }

    fn names(records: &[(&str, &str)], taken: &[&str]) -> Vec<String> {
        let records: Vec<(Uid, &str)> = records.iter().map(|(l, title)| (uid(l), *title)).collect();
        let mut taken = taken.iter().map(|name| (*name).to_owned()).collect();
        assign(&records, &mut taken)
    }

    #[test]
    fn a_title_becomes_a_name() {
        let long = "ü".repeat(300);
        for (title, want) in [
            ("MySQL prod", "MySQL-prod.json"),
            ("Orders [prod]/v1.2_x", "Orders-prodv1.2_x.json"),
            (" a  b\t", "a--b.json"),
            ("..data", "data.json"),
            (".", "uAAAAAAAAAAAAAAAAAAAAA.json"),
            ("", "uAAAAAAAAAAAAAAAAAAAAA.json"),
            ("$(rm)\u{0}'\"", "rm.json"),
            ("Zürich 東京", "Zürich-東京.json"),
            ("\u{202e}gnp", "gnp.json"),
            (&long, &format!("{}.json", "ü".repeat(100))),
        ] {
            assert_eq!(names(&[("u", title)], &[]), [want], "{title:?}");
        }
    }

    #[test]
    fn what_would_collide_gets_a_part_of_its_uid() {
        let both = [("one", "Twin"), ("two", "T/win"), ("x", "twin")];
        assert_eq!(
            names(&both, &[]),
            ["Twin-oneAAAAA.json", "Twin-twoAAAAA.json", "twin.json"]
        );
        assert_eq!(names(&both[..1], &["Twin.json"]), ["Twin-oneAAAAA.json"]);
        let taken = ["Twin.json", "Twin-oneAAAAA.json"];
        assert_eq!(
            names(&both[..1], &taken),
            ["Twin-oneAAAAAAAAAAAAAAAAAAA.json"]
        );
        // Another record's title may look like that.
        let sly = [("one", "Twin"), ("z", "Twin-oneAAAAA"), ("two", "Twin")];
        let got = names(&sly, &[]);
        let unique: HashSet<&String> = got.iter().collect();
        assert_eq!(unique.len(), 3, "{got:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_titles_get_names_of_their_own(titles in proptest::collection::vec("([ab]{0,2}|.{0,9})(-zzz)?", 0..9)) {
            let uids: Vec<String> = (0..titles.len()).map(|n| format!("u{n}")).collect();
            let records: Vec<(&str, &str)> = uids.iter().map(String::as_str).zip(titles.iter().map(String::as_str)).collect();
            let names = names(&records, &[]);
            let unique: HashSet<&String> = names.iter().collect();
            assert_eq!(unique.len(), titles.len());
            for name in names {
                assert!(name.len() <= 255 && !name.contains('/') && !name.starts_with('.'), "{name}");
                assert!(!name.chars().any(char::is_control), "{name:?}");
            }
        }
    }
}
