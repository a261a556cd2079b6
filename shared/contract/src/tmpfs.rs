//! The size of the memory-backed volume.

use crate::quantity::Quantity;

const KIB: u64 = 1024;
const PAGE: u64 = 4 * KIB;
/// State, the generations' directories, and what else is ours.
const BASE: u64 = 4 * KIB * KIB;
/// During a swap two generations exist.
const GENERATIONS: u64 = 2;
const OUTPUT: u64 = 64 * KIB;
const ATTACHMENT: u64 = KIB * KIB;
const FOLDER: u64 = 4 * KIB * KIB;

/// What the volume has to hold.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Contents {
    /// Files of records, fields and notations.
    pub(crate) outputs: usize,
    /// Files of attachments.
    pub(crate) attachments: usize,
    /// Selected folders.
    pub(crate) folders: usize,
}

/// The size that is stated, in whole pages, or one that the contents fit into as a rule.
pub(crate) fn size(stated: Option<Quantity>, contents: Contents) -> Quantity {
    let Contents {
        outputs,
        attachments,
        folders,
    } = contents;
    if let Some(size) = stated {
        return Quantity::units(size.units_up().div_ceil(PAGE).saturating_mul(PAGE));
    }
    let one = [
        (outputs, OUTPUT),
        (attachments, ATTACHMENT),
        (folders, FOLDER),
    ]
    .into_iter()
    .map(|(count, each)| {
        u64::try_from(count)
            .unwrap_or(u64::MAX)
            .saturating_mul(each)
    })
    .fold(0, u64::saturating_add);
    Quantity::units(one.saturating_mul(GENERATIONS).saturating_add(BASE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(outputs: usize, attachments: usize, folders: usize) -> Contents {
        Contents {
            outputs,
            attachments,
            folders,
        }
    }

    #[test]
    fn two_generations_of_each_and_room_for_ours() {
        for (contents, want) in [
            (contents(0, 0, 0), "4Mi"),
            (contents(1, 0, 0), "4224Ki"),
            (contents(16, 0, 0), "6Mi"),
            (contents(0, 3, 0), "10Mi"),
            (contents(8, 1, 2), "23Mi"),
        ] {
            assert_eq!(size(None, contents).to_string(), want, "{contents:?}");
        }
        // Nothing that is counted overflows.
        let all = usize::MAX;
        assert!(size(None, contents(all, all, all)) > Quantity::mebibytes(1));
    }

    #[test]
    fn a_stated_size_is_whole_pages_whatever_there_is() {
        let stated = Some(Quantity::units(100_000));
        assert_eq!(size(stated, contents(9, 9, 9)).to_string(), "100Ki");
    }
}
