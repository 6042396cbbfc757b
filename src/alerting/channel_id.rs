//! Ids of the channels in the table `alert_channels`.

/// The names in the order of their ids, which start at 1.
const NAMES: [&str; 3] = ["postmark", "smtp", "webhook"];

/// Returns the id of a channel; `None` if the table does not list it.
pub(super) fn channel_id(name: &str) -> Option<i64> {
    (1..).zip(NAMES).find(|(_, known)| *known == name).map(|(id, _)| id)
}

/// Returns the name of a channel; "unknown" for a channel of a later version.
pub(super) fn channel_name(id: i64) -> &'static str {
    (1..).zip(NAMES).find(|(known, _)| *known == id).map_or("unknown", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::super::queue_tests::SCHEMA;
    use super::*;
    use crate::db::{in_memory, table_of_names};

    #[test]
    fn ids_agree_with_the_table_of_names() {
        in_memory(SCHEMA, |connection| {
            let expected = NAMES.map(|name| (channel_id(name).unwrap(), name.to_owned()));
            assert_eq!(table_of_names(connection, "alert_channels")?, expected);
            assert_eq!((channel_name(1), channel_name(9), channel_id("pager")), ("postmark", "unknown", None));
            Ok(())
        });
    }
}
