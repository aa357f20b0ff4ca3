//! Joining the pieces of fields whose meaning only the server knows.

use serde_json::Value;

/// Fields that every piece repeats whole.
const WHOLE: [&str; 8] = ["id", "type", "name", "role", "format", "status", "object", "model"];

/// Adds a piece of a field to its value so far: texts grow, objects are merged, and so are list members that have the
/// same index or are pieces of one block.
pub(super) fn join(old: &mut Value, new: Value, field: &str) {
    match (old, new) {
        (_, Value::Null) => {}
        (Value::String(old), Value::String(new)) => {
            if WHOLE.contains(&field) {
                *old = new;
            } else if !(field.contains("signature") && *old == new) {
                old.push_str(&new);
            }
        }
        (Value::Object(old), Value::Object(new)) => {
            for (field, value) in new {
                match old.get_mut(&field) {
                    Some(old) => join(old, value, &field),
                    None => {
                        old.insert(field, value);
                    }
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => new.into_iter().for_each(|member| add(old, member)),
        (old @ Value::String(_), Value::Array(parts)) => {
            // A text that continues in parts.
            let text = serde_json::json!({ "type": "text", "text": old.take() });
            let mut all = vec![text];
            parts.into_iter().for_each(|part| add(&mut all, part));
            *old = Value::Array(all);
        }
        (Value::Array(old), text @ Value::String(_)) => add(old, serde_json::json!({ "type": "text", "text": text })),
        (old, new) => *old = new,
    }
}

fn add(list: &mut Vec<Value>, member: Value) {
    let same = |old: &Value| {
        let kinds = old["type"] == member["type"];
        if member["index"].is_number() { kinds && old["index"] == member["index"] } else { kinds && is_open(old) }
    };
    let last = if member["index"].is_number() {
        list.iter_mut().rev().find(|old| same(old))
    } else {
        list.last_mut().filter(|old| same(old))
    };
    match last {
        Some(old) if member.is_object() => join(old, member, ""),
        _ => list.push(member),
    }
}

/// Whether a member without an index is a block of text or thoughts that may continue: a signed one is complete.
fn is_open(block: &Value) -> bool {
    let grows = ["text", "thinking", "summary"].iter().any(|field| !block[field].is_null());
    grows && block["type"].is_string() && block["signature"].as_str().unwrap_or_default().is_empty()
}

/// The approximate size of a value in bytes.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => 8 + text.len(),
        Value::Array(members) => 8 + members.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => 8 + fields.iter().map(|(name, value)| name.len() + weight(value)).sum::<usize>(),
    }
}
