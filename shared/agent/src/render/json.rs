//! `json`: an object with sorted keys and an indent of two, without a newline at its end. One value stands as
//! itself, several as an array. Strings and numbers stay as the vault has written them.

use keeper_ksm::Value;

use super::{Buffer, Members};

pub(super) fn write(out: &mut Buffer, members: &Members<'_>) {
    block(out, '{', '}', 0, members.iter(), |out, (name, values)| {
        key(out, name);
        match values {
            [one] => value(out, one, 1),
            several => block(out, '[', ']', 1, several.iter(), |out, each| {
                value(out, each, 2);
            }),
        }
    });
}

/// A value whose line is indented by `depth` steps.
fn value(out: &mut Buffer, of: &Value<'_>, depth: usize) {
    if let Some(members) = of.members() {
        block(out, '{', '}', depth, members.iter(), |out, (name, each)| {
            key(out, name);
            value(out, each, depth + 1);
        });
    } else if let Some(elements) = of.elements() {
        block(out, '[', ']', depth, elements.iter(), |out, each| {
            value(out, each, depth + 1);
        });
    } else {
        out.push(of.expose_json());
    }
}

fn key(out: &mut Buffer, name: &str) {
    out.push(&serde_json::Value::from(name).to_string());
    out.push(": ");
}

/// Items on lines of their own between brackets, which stand at `depth`; nothing between them without any.
fn block<T>(
    out: &mut Buffer,
    open: char,
    close: char,
    depth: usize,
    items: impl Iterator<Item = T>,
    mut item: impl FnMut(&mut Buffer, T),
) {
    out.push(open.encode_utf8(&mut [0; 4]));
    let mut any = false;
    for each in items {
        out.push(if any { ",\n" } else { "\n" });
        out.indent(depth + 1);
        item(out, each);
        any = true;
    }
    if any {
        out.push("\n");
        out.indent(depth);
    }
    out.push(close.encode_utf8(&mut [0; 4]));
}
