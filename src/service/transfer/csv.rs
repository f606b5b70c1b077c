//! CSV (RFC 4180) one line at a time: no field of ours holds a line break, so a line is a record, and one that is wrong
//! does not take the lines after it with it.

use crate::model::Invalid;

/// Takes a line apart into `fields`, whose strings are used again.
pub(super) fn split(line: &str, fields: &mut Vec<String>) -> Result<(), Invalid> {
    fields.clear();
    let mut rest = line;
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let end = rest.find('"').ok_or_else(|| {
                    Invalid::new("a quoted field does not end on the line on which it begins")
                })?;
                field.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        rest = after;
                    }
                    None => break,
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return Err(Invalid::new("a field that has quotes must stand in quotes"));
            }
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(()),
            None => return Err(Invalid::new("there is text between a closing quote and a comma")),
        }
    }
}

/// Appends a field, in quotes where it needs them.
pub(super) fn push(line: &mut String, field: &str) {
    if field.contains(['"', ',', '\n', '\r']) || field.starts_with(' ') || field.ends_with(' ') {
        line.push('"');
        line.push_str(&field.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(field);
    }
}
